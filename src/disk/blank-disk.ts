// A disk of which nothing is known but its size: it reads as zeros.

import type { DiskReader } from './disk-reader.ts';

export function blankDisk(size: number): DiskReader {
  return {
    size,
    name: 'a disk that is still to come',
    async *extents(range) {
      if (range.length > 0) yield { ...range, kind: 'zero' };
    },
    read: async (buffer) => {
      buffer.fill(0);
    },
    close: async () => undefined,
  };
}
