// What a running job uses: its steps, its progress, its log lines, each written to the job log as it happens.
// It must not begin or end the job: runner.ts does.

import { AsyncLocalStorage } from 'node:async_hooks';
import type { JobWatch } from '../app-interface.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { endJobStep, insertJobStep } from '../catalog/job-steps.ts';
import { updateTrackedJob } from '../catalog/job-tracking.ts';
import type { EventLog } from '../catalog/log-events.ts';
import { type Clock, isoTime, newId } from '../plumbing/clock.ts';
import type { LogLevel } from '../plumbing/logger.ts';
import { type JobContext, shorten } from './job.ts';

interface RunningJob {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly jobId: string;
  readonly events: EventLog;
  /** Is told when a line or a percentage could not be written: that alone fails no job. */
  readonly onFailure: (error: unknown) => void;
  readonly watch: JobWatch;
  readonly metadata: Readonly<Record<string, unknown>>;
}

interface OpenJobContext {
  readonly context: JobContext;
  readonly metadata: () => Readonly<Record<string, unknown>>;
  /** Waits for what is still being written. */
  readonly close: () => Promise<void>;
}

/** Milliseconds between two writes of the percentage. */
const PROGRESS_INTERVAL = 500;

export function openJobContext(job: RunningJob): OpenJobContext {
  const { catalog, jobId, events, watch } = job;
  const currentStep = new AsyncLocalStorage<string>();
  const progress = openProgress(job);
  let metadata = job.metadata;
  const context: JobContext = {
    jobId,
    signal: watch.signal ?? new AbortController().signal,
    logger: {
      log: (level, message, attrs) => {
        events.append({ level, message, attrs, stepId: currentStep.getStore() ?? null });
        if (isForPeople(level)) watch.onNotice?.(message);
      },
    },
    step: openSteps(job, currentStep),
    progress: progress.report,
    setContextId: (contextId) => updateTrackedJob(catalog, jobId, { context_id: contextId }),
    setMetadata: async (values) => {
      metadata = { ...metadata, ...values };
      await updateTrackedJob(catalog, jobId, { metadata });
    },
  };
  const close = async (): Promise<void> => {
    await progress.close();
    await events.flush();
  };
  return { context, metadata: () => metadata, close };
}

function isForPeople(level: LogLevel): boolean {
  return level === 'warn' || level === 'error';
}

function openSteps({ catalog, clock, jobId, onFailure }: RunningJob, currentStep: AsyncLocalStorage<string>): JobContext['step'] {
  let seq = 0;
  return async (name, run) => {
    seq += 1;
    const id = newId(clock);
    await insertJobStep(catalog, { id, job_id: jobId, seq, name: shorten(name), started_at: isoTime(clock.now()) });
    try {
      const result = await currentStep.run(id, run);
      await endJobStep(catalog, id, { status: 'completed', completed_at: isoTime(clock.now()) });
      return result;
    } catch (error) {
      const error_message = error instanceof Error ? error.message : String(error);
      await endJobStep(catalog, id, { status: 'failed', completed_at: isoTime(clock.now()), error_message }).catch(onFailure);
      throw error;
    }
  };
}

function openProgress({ catalog, clock, jobId, watch, onFailure }: RunningJob): {
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
    written = updateTrackedJob(catalog, jobId, { percent_complete: percent }, { durable: false }).catch(onFailure);
  };
  return { report, close: () => written };
}
