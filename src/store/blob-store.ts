// The store seam: named blobs with ranged reads. A store knows nothing of backups or QCOW2.

import type { ByteSink } from '../plumbing/byte-sink.ts';
import type { ByteSource } from '../plumbing/byte-source.ts';

/** How a store that sends parts does it, from the settings of the repository. */
export interface UploadSettings {
  /** Bytes of a part, where the blob is not so large that parts must be larger. */
  readonly partSize: number;
  /** Parts of one blob that are sent at the same time. */
  readonly concurrency: number;
  /** Bytes of parts held in memory for one blob; larger parts mean fewer at the same time. */
  readonly memory: number;
}

/** What a store can do, as data; nobody asks which kind it is. */
export interface StoreCapabilities {
  /** `put` with `ifAbsent` is decided by the store itself, in one step. */
  readonly createOnly: boolean;
  /** `put` without a condition replaces a blob in one step. */
  readonly atomicReplace: boolean;
  /**
   * Is a protection date enforced by the store against everybody (its administrator may not shorten it either), kept only by us, or not at all?
   * A file attribute is `advisory`: root can take it off. `retentionMark` says how much more than our word it is.
   */
  readonly retention: 'enforced' | 'advisory' | 'none';
  /**
   * There where a protection is a mark without a date, which holds until `release`: an `attribute` that the kernel keeps against every process
   * without a special right, or only `mode` bits, which keep others from a mistake. Such a store answers `{}` for a protected blob.
   */
  readonly retentionMark?: 'attribute' | 'mode';
  /** Bytes. */
  readonly maxBlobSize: number;
  readonly maxParts?: number;
  readonly equalParts?: boolean;
  /** There where blobs are sent in parts: how large they are, and what they may take in memory; see `planParts`. */
  readonly upload?: { readonly minPartSize: number; readonly maxPartSize: number } & UploadSettings;
  /** Every read is a request with its delay and its price: a quick look keeps to listings and sidecars. */
  readonly costlyReads?: boolean;
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
  /** Upper bound of what the blob can become, where it is known: a store plans its part sizes by it, and refuses at once with BLOB_TOO_LARGE what it cannot hold. */
  readonly mostBytes?: number;
}

export interface BlobProtection {
  /** Milliseconds since 1970: not before this may the blob be changed, replaced or deleted. Never shortened: an earlier date than the present one changes nothing, nor does one that is over. */
  readonly until?: number;
  /** A hold without an end: set or lifted. Left out: as it is. */
  readonly hold?: boolean;
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
  /**
   * Durable when it returns. Deleting what is not there is not an error (a crash may have come between). What is protected is neither deleted nor
   * replaced by a `put`: IMMUTABLE_RETENTION_ACTIVE (context `retention_expires_at`, where the store knows the date) or HOLD_ACTIVE.
   */
  delete(name: string): Promise<void>;
  /** Protects a complete blob; what `capabilities.retention` says is how much that is worth. BLOB_NOT_FOUND; NOT_SUPPORTED where retention is `none`. */
  protect(name: string, protection: BlobProtection): Promise<void>;
  /** What protects the blob at this moment, as the store knows it; undefined for nothing. */
  protectionOf(name: string): Promise<BlobProtection | undefined>;
  /**
   * Before a delete of which the repository knows that nothing forbids it any more: takes back a protection that has no date of its own
   * (a file attribute). Where the store enforces dates this is a no-op; it never frees what the store says is locked.
   */
  release(name: string): Promise<void>;
  /** Removes leftovers below `prefix` that `isDead` says nobody is writing any more; answers what it removed. */
  sweep(prefix: string, isDead: (leftover: Leftover) => boolean): Promise<readonly Leftover[]>;
  capacity(): Promise<StoreCapacity | undefined>;
  /** Milliseconds since 1970 by the store's own clock, asked at this moment; undefined where it has none (`capabilities.clock`). */
  now(): Promise<number | undefined>;
  close(): Promise<void>;
}
