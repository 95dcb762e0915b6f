// Refcounts: entries of the refcount table, and counts of 1 to 64 bits in a refcount block.
// Whether the counts are right is the checker's work.

import { fromHalves, readU64, writeU64 } from '../plumbing/big-endian.ts';

/**
 * Entry of the refcount table, 64 bits, big-endian:
 *   9-63  offset of the refcount block, a multiple of the cluster size; 0 where there is none and all its counts are 0
 *   0-8   reserved
 * A refcount block is one cluster of counts, each 1 << refcount_order bits wide.
 * Counts of 8 bits and more are big-endian; smaller ones fill a byte from its lowest bit.
 */
export const REFCOUNT_TABLE_ENTRY_LENGTH = 8;
const OFFSET_LOW = 0xffff_fe00;
const RESERVED_LOW = 0x1ff;

export interface RefcountTableEntry {
  /** 0 where there is no block. Infinity where it is 2^53 or more. */
  readonly blockOffset: number;
  readonly fault?: string;
}

export function writeRefcountTableEntry(table: DataView, index: number, blockOffset: number): void {
  writeU64(table, index * REFCOUNT_TABLE_ENTRY_LENGTH, blockOffset);
}

export function readRefcountTableEntry(table: DataView, index: number, clusterBits: number): RefcountTableEntry {
  const low = table.getUint32(index * REFCOUNT_TABLE_ENTRY_LENGTH + 4);
  const blockOffset = fromHalves(table.getUint32(index * REFCOUNT_TABLE_ENTRY_LENGTH), (low & OFFSET_LOW) >>> 0);
  if ((low & RESERVED_LOW) !== 0) return { blockOffset, fault: 'reserved bits are set' };
  if (blockOffset === Number.POSITIVE_INFINITY) return { blockOffset, fault: 'the offset is 2^53 or more' };
  if (blockOffset % 2 ** clusterBits !== 0)
    return { blockOffset, fault: `the offset ${blockOffset} is not a multiple of ${2 ** clusterBits}` };
  return { blockOffset };
}

/** Counts of one refcount block. */
export function refcountsPerBlock(clusterBits: number, order: number): number {
  return 2 ** (clusterBits + 3 - order);
}

/** Largest count of this width that is a safe integer. */
export function maxRefcount(order: number): number {
  return Math.min(2 ** (2 ** order) - 1, Number.MAX_SAFE_INTEGER);
}

/** The count of the `index`th cluster of the block; Infinity where it is 2^53 or more. */
export function readRefcount(block: DataView, index: number, order: number): number {
  switch (order) {
    case 4:
      return block.getUint16(index * 2);
    case 3:
      return block.getUint8(index);
    case 5:
      return block.getUint32(index * 4);
    case 6:
      return readU64(block, index * 8);
    default:
      return (block.getUint8(byteOf(index, order)) >> shiftOf(index, order)) & maxRefcount(order);
  }
}

/** Throws RangeError for a count that does not fit the width. */
export function writeRefcount(block: DataView, index: number, order: number, count: number): void {
  if (count < 0 || count > maxRefcount(order)) throw new RangeError(`refcount ${count} does not fit ${2 ** order} bits`);
  if (order === 4) block.setUint16(index * 2, count);
  else if (order === 3) block.setUint8(index, count);
  else if (order === 5) block.setUint32(index * 4, count);
  else if (order === 6) writeU64(block, index * 8, count);
  else {
    const at = byteOf(index, order);
    const shift = shiftOf(index, order);
    const others = block.getUint8(at) & ~(maxRefcount(order) << shift);
    block.setUint8(at, others | (count << shift));
  }
}

function byteOf(index: number, order: number): number {
  return index >>> (3 - order);
}

function shiftOf(index: number, order: number): number {
  return (index % 2 ** (3 - order)) * 2 ** order;
}
