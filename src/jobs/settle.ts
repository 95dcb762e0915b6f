// Ends the jobs whose process died before it could: what the repository holds decides how each one ended.
// It must not look into a repository: the caller's `decide` does.

import { type BackupStatus, updateBackupJob } from '../catalog/backup-jobs.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { type CompletedBackup, completeBackup } from '../catalog/complete-backup.ts';
import { endRunningSteps } from '../catalog/job-steps.ts';
import { claimTrackedJob, type JobStatus, listTrackedJobs, type TrackedJob, updateTrackedJob } from '../catalog/job-tracking.ts';
import { insertLogEvent } from '../catalog/log-events.ts';
import type { Owner } from '../catalog/owner-fields.ts';
import { removeReadersOfJob } from '../catalog/readers.ts';
import { isProvablyDead } from '../control/owner.ts';
import { isoTime } from '../plumbing/clock.ts';
import type { JobDependencies } from './runner.ts';

/** How a job of a dead process ended, and with it the backups it was making. */
export interface Settlement {
  readonly status: Extract<JobStatus, 'completed' | 'failed' | 'cancelled'>;
  /** The reason, or "recovered". */
  readonly message: string;
  readonly backups?: readonly SettledBackup[];
}

export type SettledBackup =
  | { readonly status: 'completed'; readonly backup: CompletedBackup }
  | { readonly status: Extract<BackupStatus, 'failed' | 'cancelled'>; readonly id: string; readonly message: string };

export type SettledJob = { readonly jobId: string } & ({ readonly settlement: Settlement } | { readonly error: unknown });

/**
 * Settles every job that has not ended and whose owner is provably dead. Of several processes that start at once, one settles each job.
 * A job for which `decide` throws (its repository is offline) stays as it is and is answered with the error; the others are settled.
 */
export async function settleDeadJobs(
  dependencies: JobDependencies,
  decide: (job: TrackedJob, owner: Owner) => Promise<Settlement>,
): Promise<readonly SettledJob[]> {
  const { catalog, owner: self } = dependencies;
  const settled: SettledJob[] = [];
  for (const job of await listTrackedJobs(catalog, { statuses: ['pending', 'running'] })) {
    const { owner } = job;
    if (owner === null || !isProvablyDead(owner, self)) continue;
    // From here on the job is ours; should this process die too, the next one finds it again.
    if (!(await claimTrackedJob(catalog, job.id, owner, self))) continue;
    try {
      const settlement = await decide(job, owner);
      await settle(dependencies, job, settlement);
      settled.push({ jobId: job.id, settlement });
    } catch (error) {
      await claimTrackedJob(catalog, job.id, self, owner);
      settled.push({ jobId: job.id, error });
    }
  }
  return settled;
}

async function settle({ catalog, clock }: JobDependencies, job: TrackedJob, settlement: Settlement): Promise<void> {
  const { status, message } = settlement;
  const now = isoTime(clock.now());
  const completed = status === 'completed';
  await catalog.transaction(async (unit) => {
    for (const backup of settlement.backups ?? []) await settleBackup(unit, backup, now);
    await removeReadersOfJob(unit, job.id);
    await endRunningSteps(unit, job.id, { status: 'failed', completed_at: now, error_message: 'the process ended during this step' });
    await updateTrackedJob(unit, job.id, {
      status,
      completed_at: now,
      canceled_at: status === 'cancelled' ? now : null,
      error_message: completed ? null : message,
      percent_complete: completed ? 100 : job.percent_complete,
      metadata: { ...job.metadata, settled: message },
    });
    const line = `settled after its process had died: ${message}`;
    await insertLogEvent(unit, job.id, { level: completed ? 'info' : 'warn', message: line, stepId: null });
  });
}

async function settleBackup(unit: Catalog, settled: SettledBackup, now: string): Promise<void> {
  if (settled.status === 'completed') await completeBackup(unit, settled.backup);
  else await updateBackupJob(unit, settled.id, { status: settled.status, error_message: settled.message, completed_at: now });
}
