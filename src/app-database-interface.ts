// The part of the App's interface that is about the database itself. Others name it through app-interface.ts.

import type { JobWatch } from './app-job-interface.ts';

/** Something in the database that is not as it must be. */
export interface DatabaseProblem {
  readonly code: string;
  readonly table: string | null;
  /** Of the row. */
  readonly key: string | null;
  /** Name of the repository that says otherwise, or could not be asked. */
  readonly repository: string | null;
  readonly message: string;
}

/** A setting of the database server with which less is kept than the program counts on. */
export interface DatabaseWarning {
  readonly setting: string;
  readonly value: string;
  readonly message: string;
}

export interface DatabaseCheck {
  /** Null where the file is so damaged that nothing more was done. */
  readonly job_id: string | null;
  readonly rows: number;
  /** Backups in the repositories that were compared. */
  readonly backups: number;
  readonly found: number;
  /** The first of them. */
  readonly problems: readonly DatabaseProblem[];
  /** Of a server; they make no check fail. */
  readonly warnings: readonly DatabaseWarning[];
}

export interface DatabaseCopy {
  readonly job_id: string;
  readonly file: string;
  readonly size_bytes: number;
}

export interface RestoredDatabase {
  /** The copy. */
  readonly file: string;
  /** Where the replaced database is kept; null when there was none. */
  readonly replaced: string | null;
  /** Jobs that had not ended when the copy was made. */
  readonly running: readonly string[];
}

export interface RestoredJobs {
  readonly job_id: string;
  /** Jobs that the copy called running, as they ended. */
  readonly settled: readonly { readonly job_id: string; readonly status: string; readonly message: string }[];
}

export interface DatabaseCare {
  /** In itself, and against the repositories; changes nothing. */
  check(watch: JobWatch): Promise<DatabaseCheck>;
  /** Throws TARGET_EXISTS, and NOT_SUPPORTED for a database on a server. */
  backup(file: string, watch: JobWatch): Promise<DatabaseCopy>;
  /** After `restoreDatabase` of app.ts: settles the jobs that run no more. */
  settleRestored(restored: RestoredDatabase, watch: JobWatch): Promise<RestoredJobs>;
}
