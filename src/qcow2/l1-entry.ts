// One entry of the L1 table: where an L2 table lies.
// It must not decide what a broken entry means; it says what is wrong with it.

import { fromHalves, highHalf, lowHalf } from '../plumbing/big-endian.ts';

/**
 * 64 bits, big-endian:
 *   63     COPIED: the refcount of the L2 table is exactly one
 *   56-62  reserved
 *    9-55  offset of the L2 table, a multiple of the cluster size; 0 where there is none
 *    0-8   reserved
 */
export const L1_ENTRY_LENGTH = 8;
const COPIED_HIGH = 0x8000_0000;
const RESERVED_HIGH = 0x7f00_0000;
const OFFSET_HIGH = 0x00ff_ffff;
const RESERVED_LOW = 0x1ff;
const OFFSET_LOW = 0xffff_fe00;

export interface L1Entry {
  /** 0 where there is no L2 table: its whole range is unallocated. Infinity where it is 2^53 or more. */
  readonly l2Offset: number;
  readonly copied: boolean;
  /** Why the entry cannot be followed. */
  readonly fault?: string;
  /** Reserved bits are set: ignored by QEMU, refused by a strict reader. */
  readonly oddity?: string;
}

export function writeL1Entry(table: DataView, index: number, l2Offset: number): void {
  table.setUint32(index * L1_ENTRY_LENGTH, highHalf(l2Offset) | COPIED_HIGH);
  table.setUint32(index * L1_ENTRY_LENGTH + 4, lowHalf(l2Offset));
}

export function readL1Entry(table: DataView, index: number, clusterBits: number): L1Entry {
  const high = table.getUint32(index * L1_ENTRY_LENGTH);
  const low = table.getUint32(index * L1_ENTRY_LENGTH + 4);
  const l2Offset = fromHalves(high & OFFSET_HIGH, (low & OFFSET_LOW) >>> 0);
  const copied = (high & COPIED_HIGH) !== 0;
  const fault = findFault(l2Offset, copied, 2 ** clusterBits);
  const reserved = (high & RESERVED_HIGH) !== 0 || (low & RESERVED_LOW) !== 0;
  return {
    l2Offset,
    copied,
    ...(fault && { fault }),
    ...(reserved && { oddity: 'reserved bits are set' }),
  };
}

function findFault(l2Offset: number, copied: boolean, clusterSize: number): string | undefined {
  if (l2Offset === 0) return copied ? 'COPIED is set without an offset' : undefined;
  if (l2Offset === Number.POSITIVE_INFINITY) return 'the offset is 2^53 or more';
  return l2Offset % clusterSize === 0 ? undefined : `the offset ${l2Offset} is not a multiple of ${clusterSize}`;
}
