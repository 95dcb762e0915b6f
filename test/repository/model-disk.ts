// Disks whose content is known: made and changed by a seed, kept in memory, written to files with or without holes.

import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import type { DiskReader } from '../../src/disk/disk-reader.ts';
import type { Extent } from '../../src/disk/extent.ts';
import type { ByteSource } from '../../src/plumbing/byte-source.ts';

export type Random = (limit: number) => number;

/** Numbers from 0 up to `limit`, the same for the same seed. */
export function randomNumbers(seed: number): Random {
  let state = (seed * 2_654_435_761) >>> 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
}

/** Bytes that do not compress. */
export function noiseBytes(length: number, random: Random): Buffer {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = 1 + random(2 ** 31);
  for (let at = 0; at < words.length; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[at] = state;
  }
  return Buffer.from(words.buffer, 0, length);
}

/** Bytes that compress well, and differ from call to call. */
export function textBytes(length: number, random: Random): Buffer {
  return Buffer.alloc(length, `line ${random(2 ** 31)} of a file that has many such lines\n`);
}

const PIECE_KINDS = ['noise', 'text', 'zero', 'byte'] as const;

function pieceOf(kind: (typeof PIECE_KINDS)[number], length: number, random: Random): Buffer {
  if (kind === 'noise') return noiseBytes(length, random);
  if (kind === 'text') return textBytes(length, random);
  const bytes = Buffer.alloc(length);
  if (kind === 'byte' && length > 0) bytes[random(length)] = 1 + random(255);
  return bytes;
}

/** Overwrites some parts: whole clusters, parts of clusters, single bytes; with data or zeros. */
export function changeDisk(disk: Buffer, changes: number, grain: number, random: Random): void {
  for (let count = 0; count < changes && disk.length > 0; count++) {
    const aligned = random(2) === 0;
    const start = aligned ? Math.floor(random(disk.length) / grain) * grain : random(disk.length);
    const length = aligned ? grain * (1 + random(4)) : 1 + random(3 * grain);
    const kind = PIECE_KINDS[random(PIECE_KINDS.length)] ?? 'noise';
    disk.set(pieceOf(kind, Math.min(length, disk.length - start), random), start);
  }
}

/** The same disk of another size: cut, or with zeros (or data) behind its end. */
export function resizeDisk(disk: Buffer, size: number, random: Random): Buffer {
  const resized = Buffer.alloc(size);
  disk.copy(resized, 0, 0, Math.min(size, disk.length));
  if (size > disk.length && random(2) === 0) resized.set(noiseBytes(size - disk.length, random), disk.length);
  return resized;
}

const PAGE = 4096;

/** Writes the disk to a new file; `sparse` leaves pages of zeros out. */
export function writeDisk(path: string, disk: Uint8Array, sparse: boolean): void {
  const fd = openSync(path, 'w');
  try {
    ftruncateSync(fd, disk.length);
    if (!sparse) {
      for (let at = 0; at < disk.length; ) at += writeSync(fd, disk, at, disk.length - at, at);
      return;
    }
    const zeros = Buffer.alloc(PAGE);
    for (let at = 0; at < disk.length; at += PAGE) {
      const page = disk.subarray(at, Math.min(at + PAGE, disk.length));
      if (!zeros.subarray(0, page.length).equals(page)) writeSync(fd, page, 0, page.length, at);
    }
  } finally {
    closeSync(fd);
  }
}

/** A source in memory: it has no descriptor, so the main thread reads it for the workers. */
export function bytesSource(bytes: Uint8Array, name = 'bytes in memory'): ByteSource {
  return {
    name,
    size: bytes.length,
    read: async (buffer, offset) => {
      if (offset + buffer.length > bytes.length) throw new Error(`${name}: read of ${buffer.length} at ${offset} behind ${bytes.length}`);
      buffer.set(bytes.subarray(offset, offset + buffer.length));
    },
    close: async () => undefined,
  };
}

/** A disk that only it can read: its extents do not say where their bytes lie. Extents are cut at every `grain` bytes. */
export function opaqueDisk(bytes: Uint8Array, grain = 65_536): DiskReader {
  const source = bytesSource(bytes, 'a disk in memory');
  return {
    size: bytes.length,
    name: source.name,
    read: source.read,
    close: source.close,
    async *extents({ offset, length }): AsyncGenerator<Extent> {
      for (let at = offset; at < offset + length; ) {
        const end = Math.min(offset + length, (Math.floor(at / grain) + 1) * grain);
        const zero = bytes.subarray(at, end).every((byte) => byte === 0);
        yield { offset: at, length: end - at, kind: zero ? 'zero' : 'data' };
        at = end;
      }
    },
  };
}
