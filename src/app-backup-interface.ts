// The part of the App's interface that is about making backups. Others name it through app-interface.ts.

import type { BackupType } from './repository/sidecar-fields.ts';

export interface BackupInput {
  /** VM name or context id; a new name makes a new VM. */
  readonly vm: string;
  readonly disks: readonly { readonly disk_id: number; readonly source: string }[];
  /** Name or id; without it the only one, or the one named `default` (made when there is none). */
  readonly repository?: string;
  readonly type: 'auto' | BackupType;
  readonly compression: 'zstd' | 'none';
  /** Bytes; default: that of the chain, else 65536. */
  readonly cluster_size?: number;
  readonly format: 'raw' | 'qcow2';
  readonly with_backing: boolean;
  readonly change_id?: string;
  /** Of NBD exports: the dirty bitmap that says what changed. */
  readonly bitmap?: string;
  /** Of a running machine (`qmp:SOCKET`): the folder for what the guest overwrites meanwhile, and the socket of its agent. */
  readonly scratch?: string;
  readonly guest_agent?: string;
  /** Of the one disk: a file that lists what changed, and the change id from which on it does. */
  readonly changed_extents?: { readonly path: string; readonly since_change_id: string };
  readonly dry_run: boolean;
}

/** One disk's answer of `backup`; field names are those of `backup --json`. */
export interface BackupOutcome {
  readonly backup_id: string;
  readonly backup_type: BackupType;
  readonly parent_backup_id: string | null;
  readonly vm_context_id: string;
  readonly disk_id: number;
  readonly repository: string;
  readonly total_bytes: number;
  readonly size_bytes: number;
  readonly bytes_read: number;
  readonly bytes_written: number;
  readonly clusters_written: number;
  readonly duration_ms: number;
  readonly job_id: string;
  readonly restore_point_id: string;
  /** How it is known what changed: the source told it, or all was read and compared, or all was read. */
  readonly changes: string;
}
