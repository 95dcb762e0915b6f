// Where things lie in an image we write: the head (header, L1 table, refcount table) first, everything else appended behind it.
// Sizes are known before the first byte is written, so that an image is written forward once, on any store.

import { ChainkeepError } from '../plumbing/errors.ts';

export const MIN_CLUSTER_SIZE = 512;
export const MAX_CLUSTER_SIZE = 2 * 1024 * 1024;
export const DEFAULT_CLUSTER_SIZE = 65_536;
export const MAX_DISK_SIZE = 64 * 2 ** 40;
const SECTOR = 512;
const ENTRY_BYTES = 8;
const REFCOUNT_BYTES = 2;
const MAX_L1_BYTES = 32 * 2 ** 20;
const MAX_REFCOUNT_TABLE_BYTES = 8 * 2 ** 20;

export interface ImageLayout {
  readonly clusterBits: number;
  readonly clusterSize: number;
  /** Bytes, a multiple of 512: the exact size of the disk, rounded up. */
  readonly virtualSize: number;
  /** Entries. */
  readonly l1Size: number;
  readonly l1Offset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  /** Bytes of the head, a multiple of the cluster size. */
  readonly headLength: number;
  /** Clusters that one L2 table maps. */
  readonly l2Entries: number;
  /** Host clusters that one refcount block counts. */
  readonly blockEntries: number;
}

/**
 * The layout for a disk of `size` bytes. Throws DISK_SIZE_INVALID where the format or qemu's limits do not allow it:
 * L1 at most 32 MiB, refcount table at most 8 MiB (spec/qcow2.md 1.1), so small clusters limit the size of the disk.
 */
export function planLayout(size: number, clusterSize: number): ImageLayout {
  const clusterBits = Math.log2(clusterSize);
  if (!Number.isInteger(clusterBits) || clusterSize < MIN_CLUSTER_SIZE || clusterSize > MAX_CLUSTER_SIZE) {
    throw new ChainkeepError('DISK_SIZE_INVALID', `a cluster size of ${clusterSize} bytes is not possible`, {
      advice: `choose a power of two from ${MIN_CLUSTER_SIZE} to ${MAX_CLUSTER_SIZE}; ${DEFAULT_CLUSTER_SIZE} is the default`,
      context: { cluster_size: clusterSize },
    });
  }
  if (!Number.isSafeInteger(size) || size < 0 || size > MAX_DISK_SIZE) throw tooLarge(size, clusterSize, MAX_DISK_SIZE);
  const virtualSize = Math.ceil(size / SECTOR) * SECTOR;
  const l2Entries = clusterSize / ENTRY_BYTES;
  const blockEntries = clusterSize / REFCOUNT_BYTES;
  const l1Size = Math.max(1, Math.ceil(virtualSize / (clusterSize * l2Entries)));
  const l1Clusters = Math.ceil((l1Size * ENTRY_BYTES) / clusterSize);
  const refcountTableClusters = countRefcountTable(virtualSize, clusterSize, l1Size, l1Clusters);
  if (l1Size * ENTRY_BYTES > MAX_L1_BYTES || refcountTableClusters * clusterSize > Math.max(MAX_REFCOUNT_TABLE_BYTES, clusterSize)) {
    throw tooLarge(size, clusterSize, undefined);
  }
  return {
    clusterBits,
    clusterSize,
    virtualSize,
    l1Size,
    l1Offset: clusterSize,
    refcountTableOffset: (1 + l1Clusters) * clusterSize,
    refcountTableClusters,
    headLength: (1 + l1Clusters + refcountTableClusters) * clusterSize,
    l2Entries,
    blockEntries,
  };
}

/** Clusters of a refcount table that can count the largest file this image can become: every cluster stored, every table present. */
function countRefcountTable(virtualSize: number, clusterSize: number, l1Size: number, l1Clusters: number): number {
  const blockEntries = clusterSize / REFCOUNT_BYTES;
  const counted = Math.ceil(virtualSize / clusterSize) + l1Size + l1Clusters + 1;
  // Blocks count themselves and the table; one round more than needed settles it, and a spare block covers the rounding.
  const blocks = Math.ceil(counted / (blockEntries - 1)) + 2;
  return Math.ceil((blocks * ENTRY_BYTES) / clusterSize) + (blocks * ENTRY_BYTES > clusterSize ? 1 : 0);
}

function tooLarge(size: number, clusterSize: number, limit: number | undefined): ChainkeepError {
  const most = limit === undefined ? '' : ` (at most ${limit})`;
  return new ChainkeepError('DISK_SIZE_INVALID', `a disk of ${size} bytes is not possible with clusters of ${clusterSize} bytes${most}`, {
    advice: limit === undefined ? 'choose a larger cluster size' : 'disks above 64 TiB are not supported',
    context: { size, cluster_size: clusterSize },
  });
}
