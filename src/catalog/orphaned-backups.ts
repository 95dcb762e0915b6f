// Backups that say "running" though no job makes them: the job ended while the database could not take what became of its backup.
// It must not end them: what the repository holds decides how.

import { type BackupJob, selectBackupJobs } from './backup-jobs.ts';
import type { Catalog } from './catalog.ts';
import { JOB_TRACKING, listTrackedJobs, type TrackedJob } from './job-tracking.ts';
import { sql } from './sql.ts';
import { select } from './table.ts';

/** In the metadata of a backup job, one for each disk: the id of its backup. The job knows it before there is a row of that id. */
const BACKUP_OF_DISK = 'backup_id_of_disk_';

export function backupOfDiskKey(diskId: number): string {
  return `${BACKUP_OF_DISK}${diskId}`;
}

function backupsOf({ metadata }: TrackedJob): readonly unknown[] {
  return Object.entries(metadata ?? {}).flatMap(([key, value]) => (key.startsWith(BACKUP_OF_DISK) ? [value] : []));
}

/** Cheap where no backup runs. The rows are read before the jobs: a job that begins meanwhile has none of them. */
export async function findOrphanedBackups(catalog: Catalog): Promise<readonly BackupJob[]> {
  const rows = await selectBackupJobs(catalog, { statuses: ['pending', 'running'] });
  if (rows.length === 0) return [];
  const jobs = await listTrackedJobs(catalog, { statuses: ['pending', 'running'] });
  const made = new Set(jobs.flatMap(backupsOf));
  return rows.filter(({ id }) => !made.has(id));
}

/** The job that made a backup, if the job log still has it. Looks at all jobs of its VM. */
export async function findJobOfBackup(catalog: Catalog, backup: Pick<BackupJob, 'id' | 'vm_context_id'>): Promise<TrackedJob | undefined> {
  const jobs = await select(catalog, JOB_TRACKING, sql`where context_id = ${backup.vm_context_id} and job_type = 'backup'`);
  return jobs.find((job) => backupsOf(job).includes(backup.id));
}
