// The disk of the model: a few clusters of small numbers, and a size that may end inside a cluster. No product code.

/** Clusters that one range hash covers. */
export const RANGE_CLUSTERS = 4;
export const MAX_CLUSTERS = 24;
/** What a cluster reads as: 0 is zero; else the low two bits are its first half, the next two its second. */
export const VALUES = 16;
export const ZERO = 0;
/** In an image's map: this image does not decide the cluster. */
export const ABSENT = -1;

/** One value per cluster. */
export type Content = readonly number[];

/** The disk that is backed up. `size` counts half clusters. */
export interface Disk {
  size: number;
  clusters: number[];
}

export function clusterCount(size: number): number {
  return Math.ceil(size / 2);
}

export function writeCluster(disk: Disk, at: number, value: number): void {
  const index = at % disk.clusters.length;
  disk.clusters[index] = value % VALUES;
  zeroTail(disk);
}

/** What is cut off is gone: a disk that grows again reads zero there. */
export function resizeDisk(disk: Disk, size: number): void {
  disk.size = size;
  const count = clusterCount(size);
  disk.clusters.length = Math.min(disk.clusters.length, count);
  zeroTail(disk);
  while (disk.clusters.length < count) disk.clusters.push(ZERO);
}

/** The last cluster of a disk that ends inside it is always seen padded with zeros. */
function zeroTail(disk: Disk): void {
  const last = clusterCount(disk.size) - 1;
  if (disk.size % 2 === 1 && last < disk.clusters.length) disk.clusters[last] &= 3;
}

export function sameContent(left: Content, right: Content): boolean {
  return left.length === right.length && left.every((value, index) => value === right[index]);
}
