// The store seam: named blobs with ranged reads. A store knows nothing of backups or QCOW2.

import type { ByteSink } from '../plumbing/byte-sink.ts';
import type { ByteSource } from '../plumbing/byte-source.ts';

/** What a store can do, as data; nobody asks which kind it is. */
export interface StoreCapabilities {
  /** `put` with `ifAbsent` is decided by the store itself, in one step. */
  readonly createOnly: boolean;
  /** `put` without a condition replaces a blob in one step. */
  readonly atomicReplace: boolean;
  /** Is a protection date enforced against everybody, only by us, or not at all? */
  readonly retention: 'enforced' | 'advisory' | 'none';
  /** Bytes. */
  readonly maxBlobSize: number;
  readonly maxParts?: number;
  readonly equalParts?: boolean;
  /** The store has a clock of its own (`stat` times come from it). */
  readonly clock: boolean;
  readonly capacity: boolean;
}

export interface BlobInfo {
  /** Segments of `[A-Za-z0-9._-]`, joined by `/`. */
  readonly name: string;
  readonly size: number;
  /** Milliseconds since 1970 by the store's clock. */
  readonly modifiedAt: number;
}

export interface PutOptions {
  /** Bytes at the start that `finish(head)` fills; 0 for a plain blob. */
  readonly headLength?: number;
  /** Fail with BLOB_EXISTS when the name is taken at the moment of `finish`. Without it an existing blob is replaced in one step. */
  readonly ifAbsent?: boolean;
  /** Bytes that will surely be needed; a store refuses at once with INSUFFICIENT_STORAGE or BLOB_TOO_LARGE when it cannot hold them. */
  readonly expectedSize?: number;
}

export interface StoreCapacity {
  readonly totalBytes: number;
  readonly usedBytes: number;
  readonly availableBytes: number;
}

/** A temporary left by a writer: not a blob, not listed by `list`. */
export interface Leftover {
  readonly name: string;
  readonly size: number;
  readonly modifiedAt: number;
}

export interface BlobStore {
  /** Where it is, for messages: a path or a URL without secrets. */
  readonly place: string;
  readonly capabilities: StoreCapabilities;
  /**
   * Every blob whose name begins with `prefix`, sorted by name. A missing folder is an empty list; a vanished store is REPOSITORY_OFFLINE.
   * Foreign files are listed too, also under names no blob can have (so that a folder of pictures is not taken for an empty one); those cannot be opened.
   */
  list(prefix: string): AsyncIterable<BlobInfo>;
  stat(name: string): Promise<BlobInfo | undefined>;
  /** BLOB_NOT_FOUND when there is none. What was opened is what is read until `close`, or BLOB_CHANGED. */
  open(name: string): Promise<ByteSource>;
  put(name: string, options?: PutOptions): Promise<ByteSink>;
  /** Durable when it returns. Deleting what is not there is not an error (a crash may have come between). */
  delete(name: string): Promise<void>;
  /** Removes leftovers below `prefix` that `isDead` says nobody is writing any more; answers what it removed. */
  sweep(prefix: string, isDead: (leftover: Leftover) => boolean): Promise<readonly Leftover[]>;
  capacity(): Promise<StoreCapacity | undefined>;
  close(): Promise<void>;
}
