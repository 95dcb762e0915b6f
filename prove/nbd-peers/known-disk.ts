// A disk in memory whose every byte follows from its place: holes, data, and what a client writes.

import type { DiskReader } from '../../src/disk/disk-reader.ts';
import type { DiskChanges } from '../../src/nbd/server/nbd-export.ts';
import type { Random } from '../random.ts';

const BLOCK = 512;

export interface KnownDisk extends DiskReader, DiskChanges {
  readonly bytes: Buffer;
}

/** Blocks of 512 bytes, in runs that are data or hole. */
export function makeKnownDisk(size: number, random: Random): KnownDisk {
  const bytes = Buffer.alloc(size);
  for (let at = 0, data = false; at < size; data = !data) {
    const length = Math.min(size - at, random.between(1, 60) * BLOCK);
    if (data) random.bytes(length).copy(bytes, at);
    at += length;
  }
  return {
    size,
    name: 'known disk',
    bytes,
    async *extents({ offset, length }) {
      for (let at = offset; at < offset + length; ) {
        const end = Math.min(offset + length, (Math.floor(at / BLOCK) + 1) * BLOCK);
        yield { offset: at, length: end - at, kind: bytes.subarray(at, end).every((byte) => byte === 0) ? 'zero' : 'data' };
        at = end;
      }
    },
    read: async (buffer, offset) => void bytes.copy(buffer, 0, offset, offset + buffer.length),
    write: async (data, offset) => bytes.set(data, offset),
    zero: async (offset, length) => void bytes.fill(0, offset, offset + length),
    trim: async () => undefined,
    flush: async () => undefined,
    close: async () => undefined,
  };
}
