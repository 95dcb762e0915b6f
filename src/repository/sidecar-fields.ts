// The fields of a sidecar: what a committed backup says of itself. How they become bytes is sidecar.ts.

export type BackupType = 'full' | 'incremental' | 'differential';

export interface DigestsReference {
  /** Blob name of the digests file, in the same folder. */
  readonly name: string;
  readonly algorithm: 'blake3';
  /** Root hash of the digests file, hex. */
  readonly root: string;
  /** Hash over the image's header, tables and refcounts, hex. */
  readonly structure: string;
}

/** One committed backup of one disk. Names are those of the file; times are ISO 8601 in UTC; sizes are bytes. */
export interface Sidecar {
  readonly format: 1;
  readonly backup_id: string;
  readonly restore_point_id: string;
  readonly vm_context_id: string;
  readonly vm_name: string;
  readonly external_id: string | null;
  readonly disk_id: number;
  readonly backup_type: BackupType;
  readonly parent_backup_id: string | null;
  readonly parent_content_root: string | null;
  readonly content_root: string;
  readonly chain_id: string;
  /** The repository this backup was copied from; null for an original. */
  readonly origin_repository_id: string | null;
  readonly change_id: string | null;
  /** Of the image, as stored. */
  readonly size_bytes: number;
  /** Exact size of the disk. */
  readonly total_bytes: number;
  readonly started_at: string;
  readonly created_at: string;
  readonly completed_at: string;
  /** Read from the source. */
  readonly bytes_read: number;
  /** Kind of source: file, device, qcow2, nbd … */
  readonly source: string;
  readonly policy_id: string | null;
  readonly qcow2: {
    readonly virtual_size: number;
    readonly cluster_size: number;
    readonly compression: 'none' | 'zstd';
    readonly generation: number;
  };
  readonly digests: DigestsReference;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly tool: string;
}
