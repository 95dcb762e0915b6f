// Small files that would cost much: each is made here from nothing, and says why it is dangerous.
// Nothing of src/qcow2 makes them: a writer that refuses to write them would be no help.

import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { deflateRawSync, zstdCompressSync } from 'node:zlib';

const CLUSTER = 65_536;
const TIB = 2 ** 40;
const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;
const ENTRIES = CLUSTER / 8;

/** Clusters of the file: header, refcount table, refcount block, L2 table, then data or whatever the bomb is made of. */
const REFCOUNT_TABLE = 1;
const REFCOUNT_BLOCK = 2;
const L2 = 3;
const FREE = 4;

class BombFile {
  readonly #fd: number;

  constructor(path: string) {
    this.#fd = openSync(path, 'w');
  }

  write(at: number, bytes: Uint8Array): void {
    writeSync(this.#fd, bytes, 0, bytes.length, at);
  }

  u32(at: number, value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    this.write(at, bytes);
  }

  u64(at: number, value: bigint | number): void {
    this.write(at, u64s([BigInt(value)]));
  }

  /** A header of version 3 whose L1 table lies at cluster `l1`, with a refcount block for the beginning of the file. */
  header(fields: { readonly size: number; readonly l1: number; readonly l1Size: number; readonly zstd?: boolean }): void {
    this.write(0, Buffer.from('514649fb00000003', 'hex'));
    this.u32(20, 16);
    this.u64(24, fields.size);
    this.u32(36, fields.l1Size);
    this.u64(40, fields.l1 * CLUSTER);
    this.u64(48, REFCOUNT_TABLE * CLUSTER);
    this.u32(56, 1);
    this.u32(96, 4);
    this.u32(100, 112);
    if (fields.zstd) {
      this.u64(72, 8);
      this.write(104, Uint8Array.of(1));
    }
    this.u64(REFCOUNT_TABLE * CLUSTER, REFCOUNT_BLOCK * CLUSTER);
    this.write(REFCOUNT_BLOCK * CLUSTER, Buffer.alloc(2 * FREE).fill('\0\x01', 'latin1'));
  }

  /** The file has `clusters` of them, with holes where nothing was written. */
  close(clusters: number): void {
    ftruncateSync(this.#fd, clusters * CLUSTER);
    closeSync(this.#fd);
  }
}

function u64s(values: readonly bigint[]): Buffer {
  const bytes = Buffer.alloc(values.length * 8);
  values.forEach((value, index) => void bytes.writeBigUInt64BE(value, index * 8));
  return bytes;
}

function repeated(value: bigint, count: number): Buffer {
  return u64s([value]).length === 8 ? Buffer.alloc(count * 8, u64s([value])) : Buffer.alloc(0);
}

function compressedEntry(at: number, length: number): bigint {
  const sectors = Math.floor((at + length - 1) / 512) - Math.floor(at / 512);
  return COMPRESSED | (BigInt(sectors) << 54n) | BigInt(at);
}

/** One compressed stream for the whole of a disk of 512 MiB, or for its first cluster only. */
function streamBomb(file: BombFile, stream: Uint8Array, { zstd, clusters }: { readonly zstd: boolean; readonly clusters: number }): void {
  const l1 = FREE;
  file.header({ size: clusters * CLUSTER, l1, l1Size: 1, zstd });
  file.u64(l1 * CLUSTER, COPIED | BigInt(L2 * CLUSTER));
  file.write((l1 + 1) * CLUSTER, stream);
  file.write(L2 * CLUSTER, repeated(compressedEntry((l1 + 1) * CLUSTER, Math.min(stream.length, CLUSTER)), clusters));
  file.close(l1 + 1 + Math.ceil(stream.length / CLUSTER));
}

/** Snapshots without names whose L1 table is `l1Size` entries at cluster `l1`. */
function snapshots(file: BombFile, count: number, { l1, l1Size, table }: Record<'l1' | 'l1Size' | 'table', number>): number {
  const entry = Buffer.alloc(56);
  entry.writeBigUInt64BE(BigInt(l1 * CLUSTER), 0);
  entry.writeUInt32BE(l1Size, 8);
  entry.writeUInt32BE(16, 36);
  file.u32(60, count);
  file.u64(64, table * CLUSTER);
  file.write(table * CLUSTER, Buffer.alloc(count * 56, entry));
  return Math.ceil((count * 56) / CLUSTER);
}

function emptyDisk(file: BombFile): void {
  file.header({ size: CLUSTER, l1: FREE, l1Size: 1 });
  file.u64(FREE * CLUSTER, COPIED | BigInt(L2 * CLUSTER));
}

export const BOMBS: Readonly<Record<string, (file: BombFile) => void>> = {
  'one L2 table for 1 TiB, in 384 KiB': (file) => {
    file.header({ size: TIB, l1: FREE, l1Size: 2048 });
    file.write(FREE * CLUSTER, repeated(COPIED | BigInt(L2 * CLUSTER), 2048));
    file.write(L2 * CLUSTER, repeated(COPIED | BigInt((FREE + 1) * CLUSTER), ENTRIES));
    file.close(FREE + 2);
  },
  '2 PiB in 33 MiB': (file) => {
    file.header({ size: 2048 * TIB, l1: FREE, l1Size: 4_194_304 });
    file.write(FREE * CLUSTER, repeated(COPIED | BigInt(L2 * CLUSTER), 4_194_304));
    file.close(FREE + 512);
  },
  '64 TiB of zero clusters through one L2 table': (file) => {
    file.header({ size: 64 * TIB, l1: FREE, l1Size: 131_072 });
    file.write(FREE * CLUSTER, repeated(COPIED | BigInt(L2 * CLUSTER), 131_072));
    file.write(L2 * CLUSTER, u64s(Array.from({ length: ENTRIES }, (_, index) => BigInt(index % 2))));
    file.close(FREE + 16);
  },
  'a deflate stream that goes on for 64 MiB': (file) =>
    streamBomb(file, deflateRawSync(Buffer.alloc(2 ** 26)), { zstd: false, clusters: 1 }),
  'one deflate stream for 512 MiB': (file) => streamBomb(file, deflateRawSync(Buffer.alloc(CLUSTER)), { zstd: false, clusters: ENTRIES }),
  'a zstd stream that goes on for 64 MiB': (file) => streamBomb(file, zstdCompressSync(Buffer.alloc(2 ** 26)), { zstd: true, clusters: 1 }),
  'a zstd frame with a window of 2 GiB': (file) =>
    streamBomb(file, Buffer.from('28b52ffd00a8feff01000001', 'hex'), { zstd: true, clusters: 1 }),
  'zstd frames of nothing, six thousand for a cluster': (file) =>
    streamBomb(file, Buffer.alloc(CLUSTER - 512, Buffer.from('28b52ffd2000010000', 'hex')), { zstd: true, clusters: 64 }),
  '262 144 header extensions of nothing': (file) => {
    emptyDisk(file);
    file.u32(20, 21);
    const area = Buffer.alloc(2 ** 21 - 112);
    for (let at = 0; at < area.length; at += 8) area.writeUInt32BE(0x12345678, at);
    file.write(112, area);
    file.close(2 ** 24 / CLUSTER);
  },
  '65 536 snapshots': (file) => {
    emptyDisk(file);
    const clusters = snapshots(file, 65_536, { l1: FREE, l1Size: 1, table: FREE + 1 });
    file.close(FREE + 1 + clusters);
  },
  '65 536 snapshots with one L1 table of 32 MiB': (file) => {
    emptyDisk(file);
    const clusters = snapshots(file, 65_536, { l1: FREE + 1, l1Size: 4_194_304, table: FREE + 513 });
    file.close(FREE + 513 + clusters);
  },
  '65 536 snapshots with 64 L2 tables each, which are one': (file) => {
    emptyDisk(file);
    file.write((FREE + 1) * CLUSTER, repeated(COPIED | BigInt(L2 * CLUSTER), 64));
    file.write(L2 * CLUSTER, u64s(Array.from({ length: ENTRIES }, (_, index) => BigInt(index % 2))));
    const clusters = snapshots(file, 65_536, { l1: FREE + 1, l1Size: 64, table: FREE + 2 });
    file.close(FREE + 2 + clusters);
  },
  'a refcount table of 8 MiB that names one block a million times': (file) => {
    emptyDisk(file);
    file.u64(48, (FREE + 1) * CLUSTER);
    file.u32(56, 128);
    file.write((FREE + 1) * CLUSTER, repeated(BigInt(REFCOUNT_BLOCK * CLUSTER), 1_048_576));
    file.close(FREE + 129);
  },
  '65 535 bitmaps with tables of 32 GiB': (file) => {
    emptyDisk(file);
    const entry = Buffer.alloc(32);
    entry.writeBigUInt64BE(BigInt((FREE + 40) * CLUSTER), 0);
    entry.writeUInt32BE(0xffff_ffff, 8);
    entry.writeUInt8(1, 16);
    entry.writeUInt8(9, 17);
    entry.writeUInt16BE(1, 18);
    file.u64(88, 1);
    file.write(
      112,
      Buffer.concat([Buffer.from('2385287500000018', 'hex'), u64s([0xffffn << 32n, 65_535n * 32n, BigInt((FREE + 1) * CLUSTER)])]),
    );
    file.write((FREE + 1) * CLUSTER, Buffer.alloc(65_535 * 32, entry));
    file.close(FREE + 41);
  },
  '65 535 bitmaps with one table of 32 MiB': (file) => {
    emptyDisk(file);
    const entry = Buffer.alloc(32);
    entry.writeBigUInt64BE(BigInt((FREE + 40) * CLUSTER), 0);
    entry.writeUInt32BE(4_194_304, 8);
    entry.writeUInt8(1, 16);
    entry.writeUInt8(9, 17);
    entry.writeUInt16BE(1, 18);
    file.u64(88, 1);
    file.write(
      112,
      Buffer.concat([Buffer.from('2385287500000018', 'hex'), u64s([0xffffn << 32n, 65_535n * 32n, BigInt((FREE + 1) * CLUSTER)])]),
    );
    file.write((FREE + 1) * CLUSTER, Buffer.alloc(65_535 * 32, entry));
    file.close(FREE + 40 + 512);
  },
  'an L1 table of 32 GiB': (file) => {
    file.header({ size: CLUSTER, l1: FREE, l1Size: 0xffff_ffff });
    file.close(FREE + 524_288 + 1);
  },
  'a backing name of 4 GiB': (file) => {
    emptyDisk(file);
    file.u64(8, 512);
    file.u32(16, 0xffff_ffff);
    file.close(FREE + 1);
  },
  'an image that is its own backing file': (file) => {
    emptyDisk(file);
    file.write(112, Buffer.concat([Buffer.from('e2792aca00000005', 'hex'), Buffer.from('qcow2\0\0\0')]));
    file.u64(8, 512);
    file.u32(16, 10);
    file.write(512, Buffer.from('bomb.qcow2'));
    file.close(FREE + 1);
  },
};

export function writeBomb(name: string, path: string): void {
  const make = BOMBS[name];
  if (!make) throw new RangeError(`there is no bomb "${name}"`);
  make(new BombFile(path));
}
