// What a running job uses: its steps, its progress, its log lines, each written to the job log as it happens.
// It must not begin or end the job: runner.ts does.

import { AsyncLocalStorage } from 'node:async_hooks';
import type { JobWatch } from '../app-interface.ts';
import type { Catalog } from '../catalog/catalog.ts';
import type { EventLog } from '../catalog/event-log.ts';
import { endJobStep, insertJobStep } from '../catalog/job-steps.ts';
import { changeOwnJob, updateOwnPercentage, updateTrackedJob } from '../catalog/job-tracking.ts';
import { clipText } from '../catalog/log-events.ts';
import type { Owner } from '../catalog/owner-fields.ts';
import { type Clock, isoTime, newId } from '../plumbing/clock.ts';
import { isChainkeepError } from '../plumbing/errors.ts';
import type { LogLevel } from '../plumbing/logger.ts';
import { type JobContext, shorten } from './job.ts';

interface RunningJob {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly owner: Owner;
  readonly jobId: string;
  readonly events: EventLog;
  /** Is told when a line or a percentage could not be written: that alone fails no job. */
  readonly onFailure: (error: unknown) => void;
  /** Is told when a change of state finds out that the job belongs to somebody else by now. */
  readonly onLost: (error: unknown) => void;
  readonly watch: JobWatch;
  readonly signal: AbortSignal;
  readonly runChild: JobContext['child'];
  readonly metadata: Readonly<Record<string, unknown>>;
}

interface OpenJobContext {
  readonly context: JobContext;
  readonly metadata: () => Readonly<Record<string, unknown>>;
  readonly isLeftUnended: () => boolean;
  /** One durable change of what the job log says of this job, after the lines before it. */
  readonly change: <T>(work: (unit: Catalog) => Promise<T>) => Promise<T>;
  /** Waits for what is still being written. */
  readonly close: () => Promise<void>;
}

/** Milliseconds between two writes of the percentage. */
const PROGRESS_INTERVAL = 500;

export function openJobContext(job: RunningJob): OpenJobContext {
  const { jobId, events, watch } = job;
  const currentStep = new AsyncLocalStorage<string>();
  const progress = openProgress(job);
  const change = openChanges(job);
  let metadata = job.metadata;
  let leftUnended = false;
  const context: JobContext = {
    jobId,
    signal: job.signal,
    logger: {
      log: (level, message, attrs) => {
        events.append({ level, message, attrs, stepId: currentStep.getStore() ?? null });
        if (isForPeople(level)) watch.onNotice?.(message);
      },
    },
    step: openSteps(job, currentStep, change),
    child: job.runChild,
    progress: progress.report,
    setContext: (find) =>
      change(async (unit) => {
        const found = await find(unit);
        await updateTrackedJob(unit, jobId, { context_id: found.context_id });
        return found;
      }),
    setMetadata: async (values) => {
      metadata = { ...metadata, ...values };
      await change((unit) => updateTrackedJob(unit, jobId, { metadata }));
    },
    leaveUnended: () => {
      leftUnended = true;
    },
  };
  const close = async (): Promise<void> => {
    await progress.close();
    await events.close();
  };
  return { context, metadata: () => metadata, isLeftUnended: () => leftUnended, change, close };
}

function isForPeople(level: LogLevel): boolean {
  return level === 'warn' || level === 'error';
}

function openChanges({ catalog, jobId, owner, events, onLost }: RunningJob): OpenJobContext['change'] {
  return async (work) => {
    await events.flush();
    try {
      return await changeOwnJob(catalog, jobId, owner, work);
    } catch (error) {
      if (isChainkeepError(error, 'JOB_LOST')) onLost(error);
      throw error;
    }
  };
}

function openSteps(
  { clock, jobId, watch, onFailure }: RunningJob,
  currentStep: AsyncLocalStorage<string>,
  change: OpenJobContext['change'],
): JobContext['step'] {
  let last = 0;
  return async (title, run) => {
    last += 1;
    const seq = last;
    const id = newId(clock);
    const name = shorten(title);
    const began = clock.monotonic();
    const tell = (status: 'running' | 'completed' | 'failed'): void =>
      watch.onStep?.({ seq, name, status, duration_ms: Math.round(clock.monotonic() - began) });
    await change((unit) => insertJobStep(unit, { id, job_id: jobId, seq, name, started_at: isoTime(clock.now()) }));
    tell('running');
    try {
      const result = await currentStep.run(id, run);
      await change((unit) => endJobStep(unit, id, { status: 'completed', completed_at: isoTime(clock.now()) }));
      tell('completed');
      return result;
    } catch (error) {
      const error_message = clipText(error instanceof Error ? error.message : String(error));
      const end = { status: 'failed', completed_at: isoTime(clock.now()), error_message } as const;
      if (!isChainkeepError(error, 'JOB_LOST')) await change((unit) => endJobStep(unit, id, end)).catch(onFailure);
      tell('failed');
      throw error;
    }
  };
}

function openProgress({ catalog, clock, jobId, owner, watch, onFailure }: RunningJob): {
  report: JobContext['progress'];
  close: () => Promise<void>;
} {
  let nextWrite = 0;
  let shown = 0;
  let written: Promise<void> = Promise.resolve();
  const report: JobContext['progress'] = (phase, done, total) => {
    watch.onProgress?.({ phase, done, total });
    // 100 only once the job has completed.
    const percent = total > 0 ? Math.min(99, Math.floor((done / total) * 100)) : 0;
    if (percent === shown || clock.monotonic() < nextWrite) return;
    shown = percent;
    nextWrite = clock.monotonic() + PROGRESS_INTERVAL;
    written = updateOwnPercentage(catalog, jobId, owner, percent).catch(onFailure);
  };
  return { report, close: () => written };
}
