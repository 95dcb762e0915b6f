// How large the files of a backup can become, from where its source has data. Reads metadata only.
// It must be a bound: what is larger than this is a bug, and a store may refuse by it.

import type { DiskReader } from '../disk/disk-reader.ts';
import { throwIfCancelled } from '../plumbing/errors.ts';
import type { ImageLayout } from '../qcow2/image-layout.ts';
import type { ChangedClusters } from '../transfer/changed-clusters.ts';
import { RANGE_CLUSTERS } from '../transfer/expected-view.ts';
import { DIRECTORY_BYTES, HEADER_BYTES, INDEX_BYTES, RECORD_BYTES, TRAILER_BYTES } from './digests-format.ts';

export interface MostBytes {
  readonly image: number;
  readonly digests: number;
}

export interface MostBytesOptions {
  /** What reads as zeros takes no table then; a backup on a parent may have to say it anywhere. */
  readonly isFull: boolean;
  /** All clusters that are looked at, where not all of them are. */
  readonly changed?: ChangedClusters | undefined;
  readonly signal?: AbortSignal | undefined;
}

export async function mostBytes(reader: DiskReader, layout: ImageLayout, options: MostBytesOptions): Promise<MostBytes> {
  const { isFull, changed } = options;
  const { clusterSize, l1Size, l2Entries, blockEntries, headLength } = layout;
  const { clusters, tables } = changed
    ? { clusters: changed.count, tables: l1Size }
    : await countData(reader, clusterSize, clusterSize * l2Entries, options.signal);
  // Compressed clusters are packed and never larger than they were: they take no more clusters than there are of them.
  const counted = headLength / clusterSize + clusters + (isFull ? tables : l1Size);
  const blocks = Math.ceil(counted / (blockEntries - 1)) + 1;
  const all = Math.ceil(reader.size / clusterSize);
  const ranges = Math.ceil(all / RANGE_CLUSTERS);
  const records = isFull || changed ? clusters : all;
  const index = ranges * (32 + INDEX_BYTES + DIRECTORY_BYTES);
  return {
    image: (counted + blocks) * clusterSize,
    digests: HEADER_BYTES + records * RECORD_BYTES + index + TRAILER_BYTES,
  };
}

/** Clusters with data in them, and tables that map one of them. */
async function countData(
  reader: DiskReader,
  clusterSize: number,
  tableBytes: number,
  signal: AbortSignal | undefined,
): Promise<{ readonly clusters: number; readonly tables: number }> {
  let clusters = 0;
  let tables = 0;
  let clustersTo = 0;
  let tablesTo = 0;
  // A range at a time, as the transfer does: the extents of a whole disk may be many millions.
  const step = RANGE_CLUSTERS * clusterSize;
  for (let offset = 0; offset < reader.size; offset += step) {
    throwIfCancelled(signal);
    for await (const extent of reader.extents({ offset, length: Math.min(step, reader.size - offset) })) {
      if (extent.kind !== 'data') continue;
      const end = extent.offset + extent.length;
      const lastCluster = Math.ceil(end / clusterSize);
      const lastTable = Math.ceil(end / tableBytes);
      // The first may be that in which the extent before this one has ended.
      clusters += lastCluster - Math.max(clustersTo, Math.floor(extent.offset / clusterSize));
      tables += lastTable - Math.max(tablesTo, Math.floor(extent.offset / tableBytes));
      clustersTo = lastCluster;
      tablesTo = lastTable;
    }
  }
  return { clusters, tables };
}
