// A disk in memory for the server under test: known bytes, holes, faults and delays on demand.

import type { DiskReader } from '../../src/disk/disk-reader.ts';
import type { Extent } from '../../src/disk/extent.ts';
import type { DiskChanges } from '../../src/nbd/server/nbd-export.ts';

const BLOCK = 4096;

export interface MemoryDisk extends DiskReader, DiskChanges {
  readonly bytes: Buffer;
  /** What was done to it: `write 0 4096`, `flush`. */
  readonly log: string[];
  /** Runs before each read; throws to make it fail. */
  beforeRead: (offset: number, length: number) => Promise<void> | void;
}

/** Byte `i` is `(i * 7 + i / 4096) % 251`, but for the holes: every fourth block of 4096 from `holesFrom` on. */
export function memoryDisk(size: number, holesFrom = Number.POSITIVE_INFINITY): MemoryDisk {
  const bytes = Buffer.alloc(size);
  const isHole = (block: number): boolean => block * BLOCK >= holesFrom && block % 4 === 3;
  for (let at = 0; at < size; at++) if (!isHole(Math.floor(at / BLOCK))) bytes[at] = (at * 7 + Math.floor(at / BLOCK)) % 251;
  const log: string[] = [];
  const disk: MemoryDisk = {
    size,
    name: 'memory',
    bytes,
    log,
    beforeRead: () => undefined,
    async *extents({ offset, length }): AsyncGenerator<Extent> {
      for (let at = offset; at < offset + length; ) {
        const block = Math.floor(at / BLOCK);
        const end = Math.min(offset + length, (block + 1) * BLOCK);
        yield { offset: at, length: end - at, kind: isHole(block) ? 'absent' : 'data' };
        at = end;
      }
    },
    async read(buffer, offset) {
      await disk.beforeRead(offset, buffer.length);
      bytes.copy(buffer, 0, offset, offset + buffer.length);
    },
    async write(data, offset) {
      log.push(`write ${offset} ${data.length}`);
      bytes.set(data, offset);
    },
    async zero(offset, length, keep) {
      log.push(`zero ${offset} ${length}${keep ? ' keep' : ''}`);
      bytes.fill(0, offset, offset + length);
    },
    async trim(offset, length) {
      log.push(`trim ${offset} ${length}`);
    },
    async flush() {
      log.push('flush');
    },
    async close() {},
  };
  return disk;
}
