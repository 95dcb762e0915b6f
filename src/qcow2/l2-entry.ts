// One entry of an L2 table: what a guest cluster is, and where its bytes lie.
// It must not decide what a broken entry means; it says what is wrong with it. Zero is never unallocated.

import { fromHalves, highHalf, lowHalf } from '../plumbing/big-endian.ts';

/**
 * 64 bits, big-endian. Not compressed:
 *   63     COPIED: the refcount of the cluster is exactly one
 *   62     0
 *   56-61  reserved
 *    9-55  offset of the cluster, a multiple of the cluster size; 0 where there is none
 *    1-8   reserved
 *    0     reads as zeros (version 3 only; reserved with extended entries)
 * Compressed, with x = 62 - (cluster_bits - 8):
 *   63     0
 *   62     1
 *    x-61  sectors of 512 bytes the stream may use behind the one it starts in
 *    0-x-1 offset of the stream, any byte
 * An extended entry has 16 bytes; in its second half, for 32 subclusters, the first of them in the lowest bit:
 *   32-63  the subcluster reads as zeros
 *    0-31  the subcluster is allocated
 */
export const L2_ENTRY_LENGTH = 8;
export const EXTENDED_L2_ENTRY_LENGTH = 16;
export const SUBCLUSTERS = 32;
const COPIED_HIGH = 0x8000_0000;
const COMPRESSED_HIGH = 0x4000_0000;
const RESERVED_HIGH = 0x3f00_0000;
const OFFSET_HIGH = 0x00ff_ffff;
const OFFSET_LOW = 0xffff_fe00;
const RESERVED_LOW = 0x1fe;
const ZERO_LOW = 1;
const SECTOR = 512;
const ALL_SUBCLUSTERS = 0xffff_ffff;

/**
 * `unallocated`: the layer below decides. `zero`: reads as zeros, whatever `hostOffset` is.
 * `mixed` (extended entries only): the subclusters differ, look at `subclusters`.
 */
export type L2EntryKind = 'unallocated' | 'zero' | 'standard' | 'compressed' | 'mixed';

export interface L2Entry {
  readonly kind: L2EntryKind;
  /** Bytes; 0 where no host cluster is named, above 0 on a preallocated `zero` too. Infinity where it is 2^53 or more. */
  readonly hostOffset: number;
  /** Upper bound of the compressed stream in bytes; the cluster size where a host cluster is named; else 0. */
  readonly storedLength: number;
  readonly copied: boolean;
  /** Bit n speaks of subcluster n; only on extended entries that are not compressed. */
  readonly subclusters?: { readonly allocated: number; readonly zero: number };
  /** Why the cluster cannot be read. */
  readonly fault?: string;
  /** A breach of the format that QEMU's reader ignores; refused by a strict reader. */
  readonly oddity?: string;
}

export interface L2Shape {
  readonly clusterBits: number;
  readonly extended: boolean;
  readonly version: 2 | 3;
}

export function writeStandardEntry(table: DataView, index: number, hostOffset: number): void {
  table.setUint32(index * L2_ENTRY_LENGTH, highHalf(hostOffset) | COPIED_HIGH);
  table.setUint32(index * L2_ENTRY_LENGTH + 4, lowHalf(hostOffset));
}

export function writeZeroEntry(table: DataView, index: number): void {
  table.setUint32(index * L2_ENTRY_LENGTH, 0);
  table.setUint32(index * L2_ENTRY_LENGTH + 4, ZERO_LOW);
}

/** Position of the sector count in the upper half of a compressed entry: 17 for 2 MiB clusters, 29 for 512 bytes. */
function sectorShift(clusterBits: number): number {
  return 62 - (clusterBits - 8) - 32;
}

/** First offset that a compressed entry cannot name: 512 TiB with clusters of 2 MiB, 2^53 and more with small ones. */
export function maxCompressedOffset(clusterBits: number): number {
  return Math.min(2 ** (sectorShift(clusterBits) + 32), Number.MAX_SAFE_INTEGER);
}

/** `storedLength` bytes, at most one cluster, at any `hostOffset` below {@link maxCompressedOffset}. */
export function writeCompressedEntry(table: DataView, index: number, clusterBits: number, hostOffset: number, storedLength: number): void {
  // The end counts too: above 2^53 the arithmetic of offsets is not exact.
  if (hostOffset + storedLength + SECTOR > maxCompressedOffset(clusterBits) || storedLength < 1 || storedLength > 2 ** clusterBits) {
    throw new RangeError(`a compressed cluster of ${storedLength} bytes at ${hostOffset} cannot be named`);
  }
  const sectors = Math.floor((hostOffset + storedLength - 1) / SECTOR) - Math.floor(hostOffset / SECTOR);
  table.setUint32(index * L2_ENTRY_LENGTH, (COMPRESSED_HIGH | (sectors << sectorShift(clusterBits)) | highHalf(hostOffset)) >>> 0);
  table.setUint32(index * L2_ENTRY_LENGTH + 4, lowHalf(hostOffset));
}

export function readEntry(table: DataView, index: number, shape: L2Shape): L2Entry {
  const at = index * (shape.extended ? EXTENDED_L2_ENTRY_LENGTH : L2_ENTRY_LENGTH);
  const high = table.getUint32(at);
  const low = table.getUint32(at + 4);
  if ((high & COMPRESSED_HIGH) !== 0) {
    const bitmap = shape.extended && (table.getUint32(at + 8) !== 0 || table.getUint32(at + 12) !== 0);
    return readCompressed(high, low, shape.clusterBits, bitmap);
  }
  const place = readPlace(high, low, shape);
  if (!shape.extended) return readPlain(low, place, shape.version);
  return readExtended(low, place, table.getUint32(at + 8), table.getUint32(at + 12));
}

function readCompressed(high: number, low: number, clusterBits: number, bitmap: boolean): L2Entry {
  const shift = sectorShift(clusterBits);
  const hostOffset = fromHalves(high & (2 ** shift - 1), low);
  const sectors = (high & (COMPRESSED_HIGH - 1)) >>> shift;
  const copied = (high & COPIED_HIGH) !== 0;
  const oddity = copied ? 'COPIED is set on a compressed cluster' : bitmap ? 'a compressed cluster has subclusters' : undefined;
  return {
    kind: 'compressed',
    hostOffset,
    storedLength: (sectors + 1) * SECTOR - (low % SECTOR),
    copied,
    ...(hostOffset === Number.POSITIVE_INFINITY && { fault: 'the offset is 2^53 or more' }),
    ...(oddity && { oddity }),
  };
}

interface Place {
  readonly hostOffset: number;
  readonly storedLength: number;
  readonly copied: boolean;
  readonly fault?: string;
  readonly oddity?: string;
}

function readPlace(high: number, low: number, { clusterBits }: L2Shape): Place {
  const clusterSize = 2 ** clusterBits;
  const hostOffset = fromHalves(high & OFFSET_HIGH, (low & OFFSET_LOW) >>> 0);
  const copied = (high & COPIED_HIGH) !== 0;
  const fault = findPlaceFault(hostOffset, copied, clusterSize);
  const reserved = (high & RESERVED_HIGH) !== 0 || (low & RESERVED_LOW) !== 0;
  return {
    hostOffset,
    storedLength: hostOffset === 0 ? 0 : clusterSize,
    copied,
    ...(fault && { fault }),
    ...(reserved && { oddity: 'reserved bits are set' }),
  };
}

function findPlaceFault(hostOffset: number, copied: boolean, clusterSize: number): string | undefined {
  // With COPIED, offset 0 would be the first cluster of an external data file; here it can only be damage, not "unallocated".
  if (hostOffset === 0) return copied ? 'COPIED is set without an offset' : undefined;
  if (hostOffset === Number.POSITIVE_INFINITY) return 'the offset is 2^53 or more';
  return hostOffset % clusterSize === 0 ? undefined : `the offset ${hostOffset} is not a multiple of ${clusterSize}`;
}

function readPlain(low: number, place: Place, version: 2 | 3): L2Entry {
  if ((low & ZERO_LOW) !== 0) {
    if (version === 2) return { ...place, kind: 'zero', fault: 'the zero flag is set in an image of version 2' };
    return { ...place, kind: 'zero' };
  }
  return { ...place, kind: place.hostOffset === 0 ? 'unallocated' : 'standard' };
}

function readExtended(low: number, place: Place, zero: number, allocated: number): L2Entry {
  const oddity = (low & ZERO_LOW) !== 0 ? 'the zero flag is set on an extended entry' : undefined;
  const entry = { ...place, ...(oddity && { oddity }), subclusters: { allocated, zero }, kind: extendedKind(zero, allocated) };
  if ((zero & allocated) !== 0) return { ...entry, fault: 'a subcluster is both allocated and zero' };
  if (allocated !== 0 && place.hostOffset === 0) return { ...entry, fault: 'a subcluster is allocated, but the cluster has no offset' };
  return entry;
}

function extendedKind(zero: number, allocated: number): L2EntryKind {
  if (allocated === ALL_SUBCLUSTERS) return 'standard';
  if (zero === ALL_SUBCLUSTERS) return 'zero';
  return allocated === 0 && zero === 0 ? 'unallocated' : 'mixed';
}
