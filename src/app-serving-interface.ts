// The part of the App's interface that is about disks served over NBD. Others name it through app-interface.ts.

import type { BackupInput, BackupOutcome } from './app-interface.ts';
import type { JobWatch } from './app-job-interface.ts';

/** Where an NBD server listens, and how clients prove who they are. */
export interface ServingPlace {
  readonly listen:
    | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
    | { readonly kind: 'unix'; readonly path: string };
  /** Folder with server-cert.pem, server-key.pem and ca-cert.pem. */
  readonly tls_certificates?: string;
  /** Without TLS where others can reach it. */
  readonly plaintext: boolean;
}

/** Where what clients write is kept as long as the job runs. */
export interface ScratchPlace {
  readonly folder: string;
  /** What each disk may take at most: reserved at the beginning, where it is given. */
  readonly bytes?: number;
}

export interface ExportInput extends ServingPlace {
  /** An id, an unambiguous beginning of one, or "latest" with `vm`. Else all disks of a restore point of `vm`. */
  readonly backup?: string;
  readonly vm?: string;
  /** The newest restore point of `vm` that was complete then. ISO 8601, UTC. */
  readonly at?: string;
  /** Clients can write; what they wrote is gone when the export ends. Without it, the export is read-only. */
  readonly writable?: ScratchPlace;
}

export interface ServedDisk {
  readonly disk_id: number;
  /** For NBD clients. Whoever knows it may use the disk. */
  readonly address: string;
  readonly total_bytes: number;
}

export interface ServedExport {
  readonly job_id: string;
  readonly restore_point_id: string | null;
  readonly completed_at: string | null;
  readonly disks: readonly (ServedDisk & { readonly backup_id: string })[];
}

export interface ExportWatch extends JobWatch {
  readonly onServing: (served: ServedExport) => void;
}

export interface ExportOutcome {
  readonly job_id: string;
}

/** How long a receiving job waits, in seconds. */
export interface PushLimitsView {
  /** In which a client that vanished must be back. */
  readonly reconnect_within: number;
  /** Without any client: before the first one, and after all have said goodbye. */
  readonly wait: number;
}

export interface ReceiveInput
  extends ServingPlace,
    Pick<BackupInput, 'vm' | 'repository' | 'type' | 'compression' | 'cluster_size' | 'change_id'> {
  readonly disks: readonly {
    readonly disk_id: number;
    readonly size_bytes: number;
    /** The export reads as the parent, which must have this change id, and only what is written counts as changed. Else it reads as zeros at first. */
    readonly since_change_id?: string;
  }[];
  /** Without `bytes` each disk may be written as a whole. */
  readonly scratch: ScratchPlace;
  /** Instead of what is set for the installation. */
  readonly limits: Partial<PushLimitsView>;
}

export interface ServedPush {
  readonly job_id: string;
  readonly disks: readonly ServedDisk[];
}

export interface ReceiveWatch extends JobWatch {
  readonly onServing: (served: ServedPush) => void;
}

/** A backup that a push became. */
export interface PushedBackup {
  readonly backup_id: string;
  readonly disk_id: number;
  readonly backup_type: string;
  readonly parent_backup_id: string | null;
  readonly change_id: string | null;
  readonly total_bytes: number;
  readonly size_bytes: number;
}

export interface PushOutcome {
  readonly job_id: string;
  readonly restore_point_id: string | null;
  readonly backups: readonly PushedBackup[];
}

export interface Pushes {
  /** Opens writable exports, and makes a backup of them when somebody completes it. Ends when the signal fires, and nothing is committed then. */
  receive(input: ReceiveInput, watch: ReceiveWatch): Promise<readonly BackupOutcome[]>;
  /**
   * What was pushed is complete: says so to the process that receives, which then waits until the last client has said goodbye. Throws JOB_NOT_RECEIVING,
   * and JOB_ENDED.
   */
  complete(jobId: string, changeId?: string): Promise<{ readonly job_id: string; readonly status: 'completing' }>;
  /** Waits until the job has ended. Throws what it failed of. */
  outcome(jobId: string, signal?: AbortSignal): Promise<PushOutcome>;
  /** With `set` from now on. */
  limits(set?: Partial<PushLimitsView>): Promise<PushLimitsView>;
}
