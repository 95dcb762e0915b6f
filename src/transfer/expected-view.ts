// What a disk is expected to read as, cluster by cluster, with digests: the parent of an incremental, or the record of a backup.

/** Clusters in one range of a view: the unit of digests files and content roots (with 64 KiB clusters 512 MiB). */
export const RANGE_CLUSTERS = 8192;

/** Clusters are counted from the start of the range; `first` to `last` (exclusive). */
export interface ExpectedRange {
  /** One byte per cluster of the range: CLUSTER.UNKNOWN, DATA or ZERO. */
  readonly kinds: Uint8Array;
  /** A copy of the digests, 32 bytes per cluster; only meaningful where the kind is DATA. */
  digests(first: number, last: number): Uint8Array;
  /** A copy: per cluster the CRC32C of the stored bytes where they are compressed, else 0. */
  crcs(first: number, last: number): Uint32Array;
  /** Stored bytes of a cluster where they are compressed, else 0. */
  storedLength(cluster: number): number;
}

export interface ExpectedView {
  /** Undefined where nothing is expected in the whole range: it reads as zeros. */
  range(index: number): Promise<ExpectedRange | undefined>;
}

/** Nothing is expected anywhere. */
export const NOTHING_EXPECTED: ExpectedView = { range: async () => undefined };
