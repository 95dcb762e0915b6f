// Pushed disks as the App shows them: received by a job of this process, completed from another one through the catalog.

import { setTimeout as sleep } from 'node:timers/promises';
import type * as view from './app-interface.ts';
import { selectBackupJobs } from './catalog/backup-jobs.ts';
import type { Catalog } from './catalog/catalog.ts';
import { resolveTrackedJob, type TrackedJob } from './catalog/job-tracking.ts';
import { requestCompletion } from './catalog/push-completions.ts';
import { findPushLimits, setPushLimits } from './catalog/push-limits.ts';
import { checkChangeId } from './jobs/kinds/change-id.ts';
import type { JobEnvironment } from './jobs/kinds/job-environment.ts';
import { ChainkeepError, cancellation, ERROR_CODES, type ErrorCode } from './plumbing/errors.ts';

export interface PushParts {
  readonly catalog: Catalog;
  readonly home: string;
  readonly open: () => Promise<JobEnvironment>;
  /** Settles the jobs of processes that died. */
  readonly recover: () => Promise<void>;
}

const LOOK_EVERY = 300;
/** Looks between two of them for processes that died. */
const RECOVER_EVERY = 10;

export function openPushes(parts: PushParts): view.Pushes {
  const { catalog } = parts;
  return {
    receive: (input, watch) => receive(parts, input, watch),
    complete: (jobId, changeId) => complete(catalog, jobId, changeId),
    outcome: (jobId, signal) => outcome(parts, jobId, signal),
    limits: (set) => (set && Object.keys(set).length > 0 ? setPushLimits(catalog, set) : findPushLimits(catalog)),
  };
}

async function receive(
  { home, open }: PushParts,
  input: view.ReceiveInput,
  watch: view.ReceiveWatch,
): Promise<readonly view.BackupOutcome[]> {
  const { chooseRepository } = await import('./app-repositories.ts');
  const choice = await chooseRepository(await open(), home, input.repository);
  const { receive: run } = await import('./jobs/kinds/receive.ts');
  return run(await open(), choice, input, watch);
}

async function complete(catalog: Catalog, id: string, changeId?: string): ReturnType<view.Pushes['complete']> {
  if (changeId !== undefined) checkChangeId(changeId);
  const job = await resolveTrackedJob(catalog, id);
  refuseUnlessReceiving(job);
  const wish = await requestCompletion(catalog, job.id, changeId ?? null);
  if (wish.change_id !== (changeId ?? null)) {
    throw new ChainkeepError(
      'CONFIG_INVALID',
      `job ${job.id} is being completed already, with another change id: ${wish.change_id ?? 'none'}`,
      {
        advice: `see how it ends with: chainkeep jobs show ${job.id}`,
        context: { job_id: job.id },
      },
    );
  }
  return { job_id: job.id, status: 'completing' };
}

function refuseUnlessReceiving({ id, status, metadata }: TrackedJob): void {
  const context = { job_id: id, status };
  if (metadata?.push === undefined) {
    throw new ChainkeepError('JOB_NOT_RECEIVING', `job ${id} does not receive a disk`, {
      advice: 'give the job that "chainkeep receive" printed',
      context,
    });
  }
  if (status === 'running') return;
  throw new ChainkeepError('JOB_ENDED', `job ${id} is ${status}: there is nothing to complete`, {
    advice: `see how it ended with: chainkeep jobs show ${id}`,
    context,
  });
}

async function outcome({ catalog, recover }: PushParts, id: string, signal: AbortSignal | undefined): Promise<view.PushOutcome> {
  for (let looks = 1; ; looks++) {
    const job = await resolveTrackedJob(catalog, id);
    if (job.status === 'completed') return outcomeOf(catalog, job);
    if (job.status === 'failed' || job.status === 'cancelled') throw failureOf(job);
    if (signal?.aborted) throw cancellation(signal);
    if (looks % RECOVER_EVERY === 0) await recover();
    await sleep(LOOK_EVERY);
  }
}

async function outcomeOf(catalog: Catalog, job: TrackedJob): Promise<view.PushOutcome> {
  const point = job.metadata?.restore_point_id;
  const restorePointId = typeof point === 'string' ? point : null;
  const rows = restorePointId === null ? [] : await selectBackupJobs(catalog, { restorePointId, statuses: ['completed'] });
  const backups = rows
    .toSorted((a, b) => a.disk_id - b.disk_id)
    .map(({ id, disk_id, backup_type, parent_backup_id, change_id, total_bytes, size_bytes }) => {
      return { backup_id: id, disk_id, backup_type, parent_backup_id, change_id, total_bytes, size_bytes };
    });
  return { job_id: job.id, restore_point_id: restorePointId, backups };
}

function failureOf({ id, status, error_message, metadata }: TrackedJob): ChainkeepError {
  const code = metadata?.error_code;
  const why = error_message ?? 'the job log does not say why';
  return new ChainkeepError(isErrorCode(code) ? code : 'CANCELLED', `job ${id} is ${status}: ${why}`, {
    advice: `nothing more than this is known; see its lines with: chainkeep jobs log ${id}`,
    context: { job_id: id, status },
  });
}

function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && code in ERROR_CODES;
}
