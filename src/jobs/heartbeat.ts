// The sign of life of a running job, and the look at whether it may go on: each second, as long as the job runs.
// It must not end the job: it fires the signal, and the job ends itself.

import type { Catalog } from '../catalog/catalog.ts';
import { renewHeartbeat } from '../catalog/job-heartbeats.ts';
import { jobLost, lookAtOwnJob } from '../catalog/job-tracking.ts';
import type { Owner } from '../catalog/owner-fields.ts';
import { ChainkeepError } from '../plumbing/errors.ts';

/** Milliseconds between two looks for a wish to cancel. */
const LOOK_EVERY = 1000;
/** Milliseconds between two signs of life. */
const BEAT_EVERY = 10_000;
/** Milliseconds of silence after which a job whose process cannot be looked at from here counts as dead. Long against a slow disk, not against a night. */
export const SILENT_AFTER = 300_000;

export interface Heartbeat {
  /** Fires with JOB_LOST or CANCELLED as its reason. */
  readonly signal: AbortSignal;
  /** A change of state has found out that the job was lost. */
  lose(error: unknown): void;
  stop(): void;
}

/** A database that does not answer for a while ends nothing: `onFailure` hears of it once, and the next change of state decides. */
export function openHeartbeat(catalog: Catalog, jobId: string, owner: Owner, onFailure: (error: unknown) => void): Heartbeat {
  const { clock } = catalog;
  const stopped = new AbortController();
  let nextBeat = clock.monotonic() + BEAT_EVERY;
  let answers = true;
  let timer: NodeJS.Timeout | undefined;
  const look = async (): Promise<void> => {
    try {
      const { held, cancel } = await lookAtOwnJob(catalog, jobId, owner);
      if (timer === undefined) return; // it has ended meanwhile
      if (!held) stopped.abort(jobLost(jobId));
      if (cancel !== undefined) stopped.abort(cancelled(cancel));
      if (held && clock.monotonic() >= nextBeat) {
        await renewHeartbeat(catalog, jobId);
        nextBeat = clock.monotonic() + BEAT_EVERY;
      }
      answers = true;
    } catch (error) {
      if (answers) onFailure(error);
      answers = false;
    }
    if (timer !== undefined && !stopped.signal.aborted) schedule();
  };
  const schedule = (): void => {
    timer = setTimeout(() => void look(), LOOK_EVERY);
    timer.unref();
  };
  schedule();
  return {
    signal: stopped.signal,
    lose: (error) => stopped.abort(error),
    stop: () => {
      clearTimeout(timer);
      timer = undefined;
    },
  };
}

function cancelled(reason: string): ChainkeepError {
  return new ChainkeepError('CANCELLED', reason, { advice: 'nothing half done is left behind; run the same command again' });
}
