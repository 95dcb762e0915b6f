// What a disk is expected to read as, cluster by cluster, with digests: the parent of an incremental, or the record of a backup.

/** Clusters in one range of a view: the unit of digests files and content roots (with 64 KiB clusters 512 MiB). */
export const RANGE_CLUSTERS = 8192;

export interface ExpectedRange {
  /** One byte per cluster of the range: CLUSTER.UNKNOWN, DATA or ZERO. */
  readonly kinds: Uint8Array;
  /** 32 bytes per cluster; only meaningful where the kind is DATA. */
  readonly digests: Uint8Array;
  /** Per cluster: stored bytes where they are compressed, else 0. */
  readonly storedLengths: Uint32Array;
  /** Per cluster: CRC32C of the stored bytes where they are compressed, else 0. */
  readonly crcs: Uint32Array;
}

export interface ExpectedView {
  /** Undefined where nothing is expected in the whole range: it reads as zeros. */
  range(index: number): Promise<ExpectedRange | undefined>;
}

/** Nothing is expected anywhere. */
export const NOTHING_EXPECTED: ExpectedView = { range: async () => undefined };
