// The words of block data: what a range of a disk is, and where its bytes lie.

import type { ByteSource } from '../plumbing/byte-source.ts';

/**
 * `data`: bytes are there. `zero`: reads as zeros, and that is final.
 * `absent`: this layer says nothing; a layer below decides, and where there is none it reads as zeros.
 * Zero is not absent: a reader that mixes them loses data (qcow2.md, fact 3).
 */
export type ExtentKind = 'data' | 'zero' | 'absent';

export type Compression = 'none' | 'zlib' | 'zstd';

/** Where the bytes of a data extent are stored, for workers that read them on their own. */
export interface Stored {
  readonly source: ByteSource;
  /** Of the first stored byte in `source`. */
  readonly offset: number;
  /** Stored bytes to read; for `none` the length of the extent, else an upper bound of the compressed stream. */
  readonly length: number;
  readonly compression: Compression;
  /** Bytes the stream expands to; the extent is their beginning. Only where compressed. */
  readonly expandedLength?: number;
}

export interface Extent {
  /** Bytes from the start of the disk. */
  readonly offset: number;
  /** Bytes, above zero. An extent with a compressed `stored` is the beginning of one cluster, as far as the range or the disk reaches. */
  readonly length: number;
  readonly kind: ExtentKind;
  /** Only on `data`, and only where the bytes can be read without the DiskReader. */
  readonly stored?: Stored;
}

export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}
