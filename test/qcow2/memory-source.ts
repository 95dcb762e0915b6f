// Bytes in memory as a byte source, for images that are made wrong on purpose.

import type { ByteSource } from '../../src/plumbing/byte-source.ts';

export function memorySource(bytes: Uint8Array, name = 'crafted.qcow2'): ByteSource {
  return {
    name,
    size: bytes.length,
    async read(buffer, offset) {
      if (offset < 0 || offset + buffer.length > bytes.length)
        throw new Error(`read of ${buffer.length} at ${offset} behind ${bytes.length}`);
      buffer.set(bytes.subarray(offset, offset + buffer.length));
    },
    close: async () => undefined,
  };
}

/** A source of `size` bytes that are zero but for the given pieces. */
export function sparseSource(size: number, pieces: ReadonlyMap<number, Uint8Array>): ByteSource {
  return {
    name: 'sparse.qcow2',
    size,
    async read(buffer, offset) {
      if (offset < 0 || offset + buffer.length > size) throw new Error(`read of ${buffer.length} at ${offset} behind ${size}`);
      buffer.fill(0);
      for (const [at, piece] of pieces) {
        const start = Math.max(at, offset);
        const end = Math.min(at + piece.length, offset + buffer.length);
        if (start < end) buffer.set(piece.subarray(start - at, end - at), start - offset);
      }
    },
    close: async () => undefined,
  };
}
