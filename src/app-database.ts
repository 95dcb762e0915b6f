// The catalog as a thing to look after: check, copy, and what follows when a copy was put back. How jobs and files come together for that.
// It must not be loaded unless it is asked for.

import { resolve } from 'node:path';
import type { DatabaseCare, JobWatch, RestoredDatabase, RestoredJobs } from './app-interface.ts';
import { databasePath } from './catalog/database-file.ts';
import { resolveTrackedJob } from './catalog/job-tracking.ts';
import type { JobEnvironment } from './jobs/kinds/job-environment.ts';
import { ChainkeepError } from './plumbing/errors.ts';

export function openDatabaseCare(open: () => Promise<JobEnvironment>, url: string): DatabaseCare {
  return {
    check: async (watch) => (await import('./jobs/kinds/database-check.ts')).checkDatabase(await open(), watch),
    backup: async (file, watch) => {
      const path = embeddedDatabase(url, 'backup');
      return (await import('./jobs/kinds/database-backup.ts')).backupDatabase(await open(), path, resolve(file), watch);
    },
    settleRestored: async (restored, watch) => settleRestored(await open(), restored, watch),
  };
}

/** Throws NOT_SUPPORTED for a database on a server, with the tool to use instead. */
export function embeddedDatabase(url: string, what: 'backup' | 'restore'): string {
  const path = databasePath(url);
  if (path !== undefined) return path;
  const advice = {
    backup: 'use mariadb-dump --single-transaction --quick --routines --triggers DATABASE > FILE',
    restore: 'stop every chainkeep process, then: mariadb DATABASE < FILE; afterwards run: chainkeep database check',
  };
  throw new ChainkeepError('NOT_SUPPORTED', `database ${what} is for the embedded database, and this one is on a server`, {
    advice: advice[what],
  });
}

/** What the copy calls running ended when it was made, whoever ran it: the repositories say how. */
async function settleRestored(environment: JobEnvironment, restored: RestoredDatabase, watch: JobWatch): Promise<RestoredJobs> {
  const { runJob } = await import('./jobs/runner.ts');
  const { recoverDeadJobs } = await import('./jobs/recover.ts');
  const { isNotRunning } = await import('./jobs/settle.ts');
  const { file, replaced, running } = restored;
  const spec = { jobType: 'database', operation: `restore of the database from ${file}`, metadata: { file, replaced } };
  const { jobId } = await runJob(environment, spec, watch, (job) =>
    job.step('settle jobs', () => recoverDeadJobs(environment, (notice) => job.logger.log('warn', notice), isNotRunning)),
  );
  // Some of them were settled when the database was opened.
  const jobs = await Promise.all(running.map((id) => resolveTrackedJob(environment.catalog, id)));
  const settled = jobs.map(({ id, status, error_message: why }) => ({ job_id: id, status, message: why ?? 'recovered' }));
  return { job_id: jobId, settled };
}
