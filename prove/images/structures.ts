// Where the structures of a healthy image lie, so that a mutation hits something that means something.
// It must not be asked about a damaged one.

import type { BaseImage } from './base-images.ts';
import { judgeHeader, type Said } from './judge.ts';

export interface Place {
  readonly at: number;
  readonly length: number;
}

export interface Structures {
  readonly said: Said;
  /** Offsets and widths of the fields of the header. */
  readonly fields: readonly Place[];
  /** From the end of the header to the end of the first cluster. */
  readonly extensions: Place;
  /** Entries of the L1 table that are in use, of all L2 tables that are not zero, and of both halves of extended ones. */
  readonly l1Entries: readonly number[];
  readonly l2Entries: readonly number[];
  readonly bitmapHalves: readonly number[];
  /** Entries of compressed clusters, and where their streams lie. */
  readonly compressedEntries: readonly number[];
  readonly streams: readonly Place[];
  readonly dataClusters: readonly number[];
  /** What does not decide any content: refcounts, snapshots, bitmaps. */
  readonly extras: readonly Place[];
}

const OFFSET = 0x00ff_ffff_ffff_fe00n;
const V2_FIELDS = [0, 4, 16, 20, 32, 36, 56, 60].map((at) => ({ at, length: 4 }));
const V2_LONG_FIELDS = [8, 24, 40, 48, 64].map((at) => ({ at, length: 8 }));
const V3_FIELDS = [72, 80, 88]
  .map((at) => ({ at, length: 8 }))
  .concat(
    [96, 100].map((at) => ({ at, length: 4 })),
    [{ at: 104, length: 1 }],
  );
const BITMAPS_EXTENSION = 0x23852875;

export function findStructures({ name, bytes }: BaseImage): Structures {
  const said = judgeHeader({ bytes, length: bytes.length });
  if (typeof said === 'string') throw new Error(`${name}: ${said}`);
  const headerLength = said.version === 2 ? 72 : bytes.readUInt32BE(100);
  const l1Entries = Array.from({ length: said.l1Size }, (_, index) => said.l1Offset + index * 8);
  const tables = l1Entries.map((at) => Number(bytes.readBigUInt64BE(at) & OFFSET)).filter((offset) => offset !== 0);
  const width = said.extended ? 16 : 8;
  const l2Entries = tables.flatMap((table) => Array.from({ length: said.clusterSize / width }, (_, index) => table + index * width));
  const used = l2Entries.filter((at) => bytes.readBigUInt64BE(at) !== 0n);
  const compressedEntries = used.filter((at) => isCompressed(bytes, at));
  const plain = used.filter((at) => !isCompressed(bytes, at)).map((at) => Number(bytes.readBigUInt64BE(at) & OFFSET));
  return {
    said,
    fields: [...V2_FIELDS, ...V2_LONG_FIELDS, ...(said.version === 3 ? V3_FIELDS : [])],
    extensions: { at: headerLength, length: said.clusterSize - headerLength },
    l1Entries,
    l2Entries: used.length > 0 ? used : l2Entries,
    bitmapHalves: said.extended ? used.map((at) => at + 8) : [],
    compressedEntries,
    streams: compressedEntries.map((at) => streamOf(bytes, at, said.clusterBits)),
    dataClusters: plain.filter((offset) => offset !== 0),
    extras: [...findRefcounts(bytes, said.clusterSize), ...findSnapshots(bytes), ...findBitmaps(bytes, headerLength)],
  };
}

function isCompressed(bytes: Buffer, at: number): boolean {
  return (bytes.readBigUInt64BE(at) & (1n << 62n)) !== 0n;
}

function streamOf(bytes: Buffer, entryAt: number, clusterBits: number): Place {
  const entry = bytes.readBigUInt64BE(entryAt) & ((1n << 62n) - 1n);
  const x = BigInt(62 - (clusterBits - 8));
  const at = Number(entry & ((1n << x) - 1n));
  return { at, length: Math.min((Number(entry >> x) + 1) * 512 - (at % 512), bytes.length - at) };
}

function findRefcounts(bytes: Buffer, clusterSize: number): Place[] {
  const table = { at: Number(bytes.readBigUInt64BE(48)), length: bytes.readUInt32BE(56) * clusterSize };
  const blocks: Place[] = [];
  for (let at = table.at; at < table.at + table.length; at += 8) {
    const offset = Number(bytes.readBigUInt64BE(at) & OFFSET);
    if (offset !== 0) blocks.push({ at: offset, length: clusterSize });
  }
  return [{ at: table.at, length: Math.min(table.length, 64) }, ...blocks];
}

function findSnapshots(bytes: Buffer): Place[] {
  return bytes.readUInt32BE(60) === 0 ? [] : [{ at: Number(bytes.readBigUInt64BE(64)), length: 200 }];
}

/** The extension itself, the directory and the first table. */
function findBitmaps(bytes: Buffer, headerLength: number): Place[] {
  for (let at = headerLength; bytes.readUInt32BE(at) !== 0; at += 8 + Math.ceil(bytes.readUInt32BE(at + 4) / 8) * 8) {
    if (bytes.readUInt32BE(at) !== BITMAPS_EXTENSION) continue;
    const directory = Number(bytes.readBigUInt64BE(at + 24));
    return [
      { at: directory, length: Number(bytes.readBigUInt64BE(at + 16)) },
      { at: Number(bytes.readBigUInt64BE(directory)), length: 16 },
    ];
  }
  return [];
}
