// What an image may ask for before anything is allocated or read.
// Limits are data: a caller that trusts its images may hand in larger ones.

const MIB = 1024 ** 2;
const TIB = 1024 ** 4;

/** Largest virtual disk that is opened by default, bytes; a crafted header can declare 2^63. */
export const MAX_VIRTUAL_SIZE = 64 * TIB;
/** QEMU's own limits (block/qcow2.h): what it refuses cannot be a working image. */
export const MAX_L1_BYTES = 32 * MIB;
export const MAX_REFCOUNT_TABLE_BYTES = 8 * MIB;
export const MAX_SNAPSHOTS = 65_536;
export const MAX_SNAPSHOT_TABLE_BYTES = 64 * MIB;
export const MAX_SNAPSHOT_EXTRA_BYTES = 1024;
export const MAX_BITMAPS = 65_535;
export const MAX_BITMAP_DIRECTORY_BYTES = 64 * MIB;
export const MAX_BACKING_NAME_BYTES = 1023;
/** Ours: qemu writes at most five; every step of the loop costs time in a first cluster of up to 2 MiB. */
export const MAX_EXTENSIONS = 256;
/** Largest zstd window, bytes; what zstd itself accepts without being asked for more. */
export const MAX_ZSTD_WINDOW = 128 * MIB;

export const MIN_CLUSTER_BITS = 9;
export const MAX_CLUSTER_BITS = 21;
/** Extended L2 divides a cluster in 32 subclusters of at least 512 bytes. */
export const MIN_CLUSTER_BITS_EXTENDED = 14;
export const MAX_REFCOUNT_ORDER = 6;

export interface Qcow2Limits {
  /** Bytes. */
  readonly virtualSize: number;
  /** Bytes of the L1 table. */
  readonly l1Bytes: number;
  /** Bytes of the refcount table. */
  readonly refcountTableBytes: number;
  readonly snapshots: number;
  /** Bytes of the snapshot table. */
  readonly snapshotTableBytes: number;
  /** Bytes of the bitmap directory. */
  readonly bitmapDirectoryBytes: number;
  /** Header extensions, of any type. */
  readonly extensions: number;
}

export const DEFAULT_LIMITS: Qcow2Limits = {
  virtualSize: MAX_VIRTUAL_SIZE,
  l1Bytes: MAX_L1_BYTES,
  refcountTableBytes: MAX_REFCOUNT_TABLE_BYTES,
  snapshots: MAX_SNAPSHOTS,
  snapshotTableBytes: MAX_SNAPSHOT_TABLE_BYTES,
  bitmapDirectoryBytes: MAX_BITMAP_DIRECTORY_BYTES,
  extensions: MAX_EXTENSIONS,
};
