// Ends the jobs whose process died before it could: what the repository holds decides how each one ended.
// It must not look into a repository: the caller's `decide` does.

import { type BackupStatus, updateBackupJob } from '../catalog/backup-jobs.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { type CompletedBackup, completeBackup } from '../catalog/complete-backup.ts';
import { heartbeatTime } from '../catalog/job-heartbeats.ts';
import { endRunningSteps } from '../catalog/job-steps.ts';
import {
  changeOwnJob,
  claimTrackedJob,
  endTrackedJob,
  type JobStatus,
  listUnendedJobs,
  returnTrackedJob,
  type TrackedJob,
  type UnendedJob,
} from '../catalog/job-tracking.ts';
import { clipText, insertLogEvent } from '../catalog/log-events.ts';
import type { Owner } from '../catalog/owner-fields.ts';
import { removeReadersOfJob } from '../catalog/readers.ts';
import { removeReservationsOfJob } from '../catalog/space-reservations.ts';
import { judgeOwner } from '../control/owner.ts';
import { isoTime } from '../plumbing/clock.ts';
import { isChainkeepError } from '../plumbing/errors.ts';
import { SILENT_AFTER } from './heartbeat.ts';
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
 * Settles every job that has not ended and whose owner is dead: provably on this machine, by its silence elsewhere. Of several processes that start
 * at once, one settles each job. A job for which `decide` throws (its repository is offline) stays as it is and is answered with the error; the
 * others are settled.
 */
export async function settleDeadJobs(
  dependencies: JobDependencies,
  decide: (job: TrackedJob, owner: Owner) => Promise<Settlement>,
  isDead = isDeadOrSilent,
): Promise<readonly SettledJob[]> {
  const { catalog, owner: self } = dependencies;
  const settled: SettledJob[] = [];
  const now = await heartbeatTime(catalog);
  for (const job of await listUnendedJobs(catalog)) {
    const { owner } = job;
    if (owner === null || !isDead(job, owner, self, now)) continue;
    // From here on the job is ours; should this process die too, the next one finds it again.
    if (!(await claimTrackedJob(catalog, job, owner, self))) continue;
    try {
      const settlement = await decide(job, owner);
      await settle(dependencies, job, settlement);
      settled.push({ jobId: job.id, settlement });
    } catch (error) {
      settled.push({ jobId: job.id, error });
      await giveBack(catalog, job, self, owner);
    }
  }
  return settled;
}

async function giveBack(catalog: Catalog, job: UnendedJob, self: Owner, owner: Owner): Promise<void> {
  try {
    await returnTrackedJob(catalog, job, self, owner);
  } catch (error) {
    if (!isChainkeepError(error, 'JOB_LOST')) throw error; // somebody else has it by now: it is not ours to give back
  }
}

/** `now`: by the clock of heartbeats. A process that can be looked at is never judged by its silence: stopped, it may go on. */
function isDeadOrSilent(job: UnendedJob, owner: Owner, self: Owner, now: number): boolean {
  const state = judgeOwner(owner, self);
  return state === 'dead' || (state === 'unknown' && now - Date.parse(job.heard_at) > SILENT_AFTER);
}

/** For a catalog that was put in the place of another one: only what certainly runs is left alone. */
export function isNotRunning(_job: UnendedJob, owner: Owner, self: Owner): boolean {
  return judgeOwner(owner, self) !== 'running';
}

async function settle({ catalog, clock, owner }: JobDependencies, job: TrackedJob, settlement: Settlement): Promise<void> {
  const { status, message } = settlement;
  const now = isoTime(clock.now());
  const completed = status === 'completed';
  await changeOwnJob(catalog, job.id, owner, async (unit) => {
    for (const backup of settlement.backups ?? []) await settleBackup(unit, backup, now);
    await removeReadersOfJob(unit, job.id);
    await removeReservationsOfJob(unit, job.id);
    await endRunningSteps(unit, job.id, { status: 'failed', completed_at: now, error_message: 'the process ended during this step' });
    await endTrackedJob(unit, job.id, {
      status,
      completed_at: now,
      canceled_at: status === 'cancelled' ? now : null,
      error_message: completed ? null : clipText(message),
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
