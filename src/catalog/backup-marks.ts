// What a row of backup_jobs says when the repository does not hold what it should: missing, damaged, a placeholder.
// It must not look into a repository: a rescan and verify do, and write these marks.

import type { BackupJob } from './backup-jobs.ts';
import { sql } from './sql.ts';

/** The error message of a completed backup that has no sidecar any more. Its row stays: only the catalog knows that there was one. */
export const MISSING = 'the backup is in the catalog and not in the repository';

const PLACEHOLDER = 'placeholder: ';

/** The error message of a row that only stands for a backup: others need it, and its own sidecar is gone or cannot be read. */
export function placeholderMessage(why: string): string {
  return `${PLACEHOLDER}${why}`;
}

export function isPlaceholder({ status, error_message }: Pick<BackupJob, 'status' | 'error_message'>): boolean {
  return status === 'failed' && error_message !== null && error_message.startsWith(PLACEHOLDER);
}

/** Is it known of a backup that completed that it is not there, or not whole? Without a verify of its data. */
export function isMarked({ status, error_message }: Pick<BackupJob, 'status' | 'error_message'>): boolean {
  return status === 'completed' && error_message !== null;
}

/** `missing`, `damaged` or null, for a query in which backup_jobs is called `j`. */
export const PROBLEM = sql`case when j.status = 'completed' and j.error_message is not null
      then case when j.error_message = ${MISSING} then 'missing' else 'damaged' end end`;
