// The bitmap directory: dirty bitmaps that QEMU keeps in an image.
// Damage here must never block reading data: a broken bitmap is called unusable, and nothing is thrown for it.

import { fromHalves, highHalf, lowHalf, readU64 } from '../plumbing/big-endian.ts';
import type { ByteSource } from '../plumbing/byte-source.ts';
import { AUTOCLEAR_BITMAPS, hasBit } from './feature-bits.ts';
import type { Qcow2Header } from './header.ts';
import { EXTENSION_BITMAPS } from './header-extensions.ts';
import { MAX_BITMAPS, type Qcow2Limits } from './limits.ts';

/**
 * Header extension, 24 bytes: 0 u32 number of bitmaps, 4 u32 zero, 8 u64 length and 16 u64 offset of the directory.
 * Directory entry, padded with zeros to a multiple of 8:
 *   0  u64  offset of the bitmap table    17  u8   granularity bits
 *   8  u32  entries of the bitmap table   18  u16  length of the name
 *  12  u32  flags                         20  u32  length of the extra data
 *  16  u8   type, 1 = dirty tracking      24       extra data, name
 * Bitmap table entry, 64 bits: 9-55 offset of a cluster of bits, 0 where there is none; 0: then all bits are one; the rest reserved.
 */
const EXTENSION_LENGTH = 24;
const TABLE_SIZE_AT = 8;
const FLAGS_AT = 12;
const TYPE_AT = 16;
const GRANULARITY_AT = 17;
const NAME_LENGTH_AT = 18;
const EXTRA_LENGTH_AT = 20;
const FIXED_LENGTH = 24;
const FLAG_IN_USE = 1;
const FLAG_AUTO = 2;
const KNOWN_FLAGS = 0b111;
const TYPE_DIRTY = 1;
const MIN_GRANULARITY_BITS = 9;
const MAX_GRANULARITY_BITS = 31;
const MAX_NAME_BYTES = 1023;
export const BITMAP_TABLE_ENTRY_LENGTH = 8;

export interface Bitmap {
  readonly name: string;
  /** Bytes of the disk one bit stands for. */
  readonly granularityBits: number;
  readonly tableOffset: number;
  /** Entries. */
  readonly tableSize: number;
  readonly inUse: boolean;
  readonly auto: boolean;
  /** Why it cannot tell what changed; undefined where it can. */
  readonly unusable: string | undefined;
}

export interface BitmapDirectory {
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  readonly bitmaps: readonly Bitmap[];
  /** Why the rest of the directory, or all of it, could not be read. */
  readonly problem: string | undefined;
}

/** Undefined where the image has no bitmaps. Throws only what the source throws. */
export async function readBitmaps(source: ByteSource, header: Qcow2Header, limits: Qcow2Limits): Promise<BitmapDirectory | undefined> {
  const extension = header.extensions.find(({ type }) => type === EXTENSION_BITMAPS);
  if (!extension) return undefined;
  const { data } = extension;
  const nothing = { offset: 0, length: 0, bitmaps: [] };
  if (data.length !== EXTENSION_LENGTH) return { ...nothing, problem: `the bitmap extension has ${data.length} bytes` };
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const count = view.getUint32(0);
  const length = readU64(view, 8);
  const offset = readU64(view, 16);
  if (count === 0 || count > MAX_BITMAPS) return { ...nothing, problem: `the image claims to have ${count} bitmaps` };
  if (view.getUint32(4) !== 0) return { ...nothing, problem: 'reserved bytes of the bitmap extension are set' };
  if (length > limits.bitmapDirectoryBytes) return { ...nothing, problem: `the bitmap directory has ${length} bytes` };
  if (offset === 0 || offset % header.clusterSize !== 0 || offset + length > source.size) {
    return { ...nothing, problem: `the bitmap directory (${length} bytes at ${offset}) is not at a cluster of the file` };
  }
  const bytes = new Uint8Array(length);
  await source.read(bytes, offset);
  return { offset, length, ...parseBitmapDirectory(bytes, count, header, source.size) };
}

export function parseBitmapDirectory(
  bytes: Uint8Array,
  count: number,
  header: Pick<Qcow2Header, 'size' | 'clusterSize' | 'autoclear'>,
  fileSize: number,
): Pick<BitmapDirectory, 'bitmaps' | 'problem'> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const bitmaps: Bitmap[] = [];
  const names = new Set<string>();
  let at = 0;
  while (at < bytes.length) {
    if (bitmaps.length === count) return { bitmaps, problem: `the bitmap directory goes on behind ${count} bitmaps` };
    if (at + FIXED_LENGTH > bytes.length) return { bitmaps, problem: 'the bitmap directory ends in the middle of an entry' };
    const extraLength = view.getUint32(at + EXTRA_LENGTH_AT);
    const nameLength = view.getUint16(at + NAME_LENGTH_AT);
    const end = at + FIXED_LENGTH + extraLength + nameLength;
    if (end > bytes.length) return { bitmaps, problem: 'the bitmap directory ends in the middle of an entry' };
    const name = Buffer.from(bytes.subarray(end - nameLength, end)).toString('utf8');
    const entry = new DataView(bytes.buffer, bytes.byteOffset + at, FIXED_LENGTH);
    const unusable = names.has(name) ? 'another bitmap has the same name' : findFault(entry, header, fileSize);
    bitmaps.push(parseEntry(entry, name, unusable));
    names.add(name);
    at = Math.ceil(end / 8) * 8;
  }
  const problem = bitmaps.length === count ? undefined : `the bitmap directory has ${bitmaps.length} of ${count} bitmaps`;
  return { bitmaps, problem };
}

function parseEntry(entry: DataView, name: string, unusable: string | undefined): Bitmap {
  const flags = entry.getUint32(FLAGS_AT);
  return {
    name,
    granularityBits: entry.getUint8(GRANULARITY_AT),
    tableOffset: readU64(entry, 0),
    tableSize: entry.getUint32(TABLE_SIZE_AT),
    inUse: (flags & FLAG_IN_USE) !== 0,
    auto: (flags & FLAG_AUTO) !== 0,
    unusable,
  };
}

function findFault(entry: DataView, header: Pick<Qcow2Header, 'size' | 'clusterSize' | 'autoclear'>, fileSize: number): string | undefined {
  const flags = entry.getUint32(FLAGS_AT);
  const granularityBits = entry.getUint8(GRANULARITY_AT);
  const nameLength = entry.getUint16(NAME_LENGTH_AT);
  const tableOffset = readU64(entry, 0);
  const tableSize = entry.getUint32(TABLE_SIZE_AT);
  if (!hasBit(header.autoclear, AUTOCLEAR_BITMAPS)) return 'a program that does not know bitmaps changed the image';
  if ((flags & FLAG_IN_USE) !== 0) return 'it was in use when the image was last written';
  if ((flags & ~KNOWN_FLAGS) !== 0) return 'it has unknown flags';
  if (entry.getUint8(TYPE_AT) !== TYPE_DIRTY) return `it is of the unknown type ${entry.getUint8(TYPE_AT)}`;
  if (granularityBits < MIN_GRANULARITY_BITS || granularityBits > MAX_GRANULARITY_BITS) return `its granularity is 2^${granularityBits}`;
  if (nameLength === 0 || nameLength > MAX_NAME_BYTES) return `its name has ${nameLength} bytes`;
  if (entry.getUint32(EXTRA_LENGTH_AT) !== 0) return 'it has unknown extra data';
  const needed = Math.ceil(Math.ceil(Math.ceil(header.size / 2 ** granularityBits) / 8) / header.clusterSize);
  if (tableSize !== needed) return `its table has ${tableSize} entries, the disk needs ${needed}`;
  const inFile = tableOffset !== 0 && tableOffset + tableSize * BITMAP_TABLE_ENTRY_LENGTH <= fileSize;
  if (tableSize > 0 && (!inFile || tableOffset % header.clusterSize !== 0))
    return `its table at ${tableOffset} is not at a cluster of the file`;
  return undefined;
}

export interface BitmapTableEntry {
  /** 0 where no bits are stored. */
  readonly offset: number;
  /** Only where no bits are stored: are all of them one? */
  readonly allOnes: boolean;
  readonly fault?: string;
}

const OFFSET_HIGH = 0x00ff_ffff;
const OFFSET_LOW = 0xffff_fe00;
const RESERVED_HIGH = 0xff00_0000;
const RESERVED_LOW = 0x1fe;

export function readBitmapTableEntry(table: DataView, index: number, clusterSize: number): BitmapTableEntry {
  const high = table.getUint32(index * BITMAP_TABLE_ENTRY_LENGTH);
  const low = table.getUint32(index * BITMAP_TABLE_ENTRY_LENGTH + 4);
  const offset = fromHalves(high & OFFSET_HIGH, (low & OFFSET_LOW) >>> 0);
  const allOnes = (low & 1) === 1;
  if ((high & RESERVED_HIGH) !== 0 || (low & RESERVED_LOW) !== 0) return { offset, allOnes, fault: 'reserved bits are set' };
  if (offset % clusterSize !== 0) return { offset, allOnes, fault: `the offset ${offset} is not a multiple of ${clusterSize}` };
  if (offset !== 0 && allOnes) return { offset, allOnes, fault: 'all bits are said to be one and to be stored' };
  return { offset, allOnes };
}

export function writeBitmapTableEntry(table: DataView, index: number, entry: { readonly offset: number; readonly allOnes: boolean }): void {
  table.setUint32(index * BITMAP_TABLE_ENTRY_LENGTH, highHalf(entry.offset));
  table.setUint32(index * BITMAP_TABLE_ENTRY_LENGTH + 4, lowHalf(entry.offset) + (entry.allOnes ? 1 : 0));
}
