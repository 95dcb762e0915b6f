// Everything that holds a disk's bytes: a raw file, a device, an NBD export, one QCOW2 image, a whole chain.

import type { ByteRange, Extent } from './extent.ts';

export interface DiskReader {
  /** Exact size of the disk in bytes; need not be a multiple of anything. */
  readonly size: number;
  /** What errors call it. */
  readonly name: string;
  /** As of a ByteSource: the buffer of `read` may be shared memory, and nothing writes into it any more when a read has ended, either way. */
  readonly intoShared?: boolean;
  /**
   * The extents of `range` in ascending order, without gaps or overlaps, cut to the range.
   * Reads metadata only. Throws what the format throws on damaged metadata.
   */
  extents(range: ByteRange): AsyncIterable<Extent>;
  /**
   * Fills the whole buffer from `offset` or throws; zero and absent extents read as zeros. When it has thrown, something may still write into the buffer:
   * it is used for nothing else then.
   */
  read(buffer: Uint8Array, offset: number): Promise<void>;
  close(): Promise<void>;
}
