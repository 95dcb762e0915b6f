// The part of the App's interface that is about disks served over NBD. Others name it through app-interface.ts.

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
