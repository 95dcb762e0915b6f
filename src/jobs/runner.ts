// Runs one job: writes it into the job log before it begins, its steps while it runs, and how it ended.
// It must not know what the job does.

import type { JobWatch } from '../app-interface.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { openEventLog } from '../catalog/event-log.ts';
import { endRunningSteps } from '../catalog/job-steps.ts';
import { endTrackedJob, insertTrackedJob, type TrackedJob } from '../catalog/job-tracking.ts';
import { clipText } from '../catalog/log-events.ts';
import type { Owner } from '../catalog/owner-fields.ts';
import { type Clock, isoTime, newId } from '../plumbing/clock.ts';
import { ChainkeepError, isChainkeepError } from '../plumbing/errors.ts';
import { openHeartbeat } from './heartbeat.ts';
import { type JobContext, type JobSpec, shorten } from './job.ts';
import { openJobContext } from './job-context.ts';

export interface JobDependencies {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly owner: Owner;
}

/**
 * Answers what `run` answers. When `run` throws, the job ends as cancelled (CANCELLED) or failed, with the message and the code (`error_code` in the
 * metadata), and the error is thrown again; a job that was left unended stays as it is. Throws CATALOG_FAILED when the beginning, a step or the end cannot be written to the job log, and
 * JOB_LOST when another process has settled the job meanwhile.
 */
export async function runJob<T>(
  dependencies: JobDependencies,
  spec: JobSpec,
  watch: JobWatch,
  run: (context: JobContext) => Promise<T>,
): Promise<{ jobId: string; result: T }> {
  const { catalog, clock, owner } = dependencies;
  const jobId = newId(clock);
  await beginJob(dependencies, jobId, spec);
  const onFailure = (error: unknown): void => watch.onNotice?.(`the log of job ${jobId} is incomplete: ${messageOf(error)}`);
  const events = openEventLog(catalog, jobId, onFailure);
  const heartbeat = openHeartbeat(catalog, jobId, owner, onFailure);
  const signal = watch.signal === undefined ? heartbeat.signal : AbortSignal.any([watch.signal, heartbeat.signal]);
  const open = openJobContext({
    ...{ catalog, clock, owner, jobId, events, onFailure, onLost: heartbeat.lose, watch, signal, metadata: spec.metadata ?? {} },
    runChild: (child, work) => runJob(dependencies, { ...child, parentJobId: jobId }, { ...watch, signal }, work),
  });
  const end = (fields: Partial<TrackedJob>): Promise<void> => open.change((unit) => endJob(unit, jobId, isoTime(clock.now()), fields));
  try {
    let result: T;
    try {
      result = await run(open.context);
    } catch (thrown) {
      const error = jobError(thrown, signal);
      events.append({ level: isCancelled(error) ? 'info' : 'error', message: messageOf(error), attrs: errorAttrs(error), stepId: null });
      await open.close();
      // The error that ended the job must reach the caller, not the one of a job log that cannot be written. A lost job has ended already.
      if (!isChainkeepError(error, 'JOB_LOST') && !open.isLeftUnended()) await end(failure(error, open.metadata())).catch(onFailure);
      throw error;
    }
    await open.close();
    await end({ status: 'completed', percent_complete: 100 });
    return { jobId, result };
  } finally {
    heartbeat.stop();
  }
}

function beginJob({ catalog, clock, owner }: JobDependencies, jobId: string, spec: JobSpec): Promise<void> {
  const now = isoTime(clock.now());
  return insertTrackedJob(catalog, {
    id: jobId,
    parent_job_id: spec.parentJobId ?? null,
    job_type: spec.jobType,
    operation: shorten(spec.operation),
    status: 'running',
    owner,
    context_id: spec.contextId ?? null,
    metadata: spec.metadata ?? {},
    created_at: now,
    started_at: now,
  });
}

/** What Node's own functions throw when the signal fires is what fired it: a cancellation, or that the job was lost. */
function jobError(error: unknown, signal: AbortSignal): unknown {
  if (!signal.aborted || !(error instanceof Error) || error.name !== 'AbortError') return error;
  return isChainkeepError(signal.reason) ? signal.reason : new ChainkeepError('CANCELLED', 'cancelled', { cause: error });
}

function failure(error: unknown, metadata: Readonly<Record<string, unknown>>): Partial<TrackedJob> {
  return {
    status: isCancelled(error) ? 'cancelled' : 'failed',
    error_message: clipText(messageOf(error)),
    metadata: { ...metadata, error_code: codeOf(error) },
  };
}

function errorAttrs(error: unknown): Readonly<Record<string, unknown>> {
  if (isChainkeepError(error)) return { code: error.code, ...error.context };
  return { code: codeOf(error), stack: error instanceof Error ? error.stack : undefined };
}

function codeOf(error: unknown): string {
  return isChainkeepError(error) ? error.code : 'INTERNAL';
}

function isCancelled(error: unknown): boolean {
  return isChainkeepError(error, 'CANCELLED');
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function endJob(unit: Catalog, jobId: string, now: string, end: Partial<TrackedJob>): Promise<void> {
  const at = end.status === 'cancelled' ? { canceled_at: now, completed_at: now } : { completed_at: now };
  const message = end.error_message ?? 'the job ended before this step did';
  await endRunningSteps(unit, jobId, { status: 'failed', completed_at: now, error_message: message });
  await endTrackedJob(unit, jobId, { ...end, ...at });
}
