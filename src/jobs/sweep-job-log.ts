// Takes old entries out of the job log, in small pieces and for a moment only: what is left is done at the next start.
// It must not hold up the command that happens to be the first of the day.

import type { Catalog } from '../catalog/catalog.ts';
import {
  findJobRetention,
  JOB_RETENTION_DAYS,
  listOldJobs,
  removeEndedJob,
  removeOldestEvents,
  setJobRetention,
} from '../catalog/job-retention.ts';
import { listTrackedJobs, type TrackedJob } from '../catalog/job-tracking.ts';
import { isoTime } from '../plumbing/clock.ts';

/** Milliseconds of one start. */
const BUDGET = 500;
const JOBS_AT_ONCE = 50;
const EVENTS_AT_ONCE = 1000;
const DAY_MS = 86_400_000;
/** People look for the reason of a failure long after: without its lines, a failed job stays as long as this at least. */
const FAILED_DAYS = 365;

export interface Swept {
  readonly jobs: number;
  readonly events: number;
  readonly finished: boolean;
}

/** `budget`: milliseconds after which it stops. A second process that comes at the same time finds nothing wrong, only less to do. */
export async function sweepJobLog(catalog: Catalog, budget = BUDGET): Promise<Swept> {
  const { clock } = catalog;
  const days = (await findJobRetention(catalog))?.days ?? JOB_RETENTION_DAYS;
  await setJobRetention(catalog, { sweptAt: clock.now() });
  const ending = clock.monotonic() + budget;
  const swept = { jobs: 0, events: 0, finished: false };
  const failedBefore = isoTime(clock.now() - Math.max(days, FAILED_DAYS) * DAY_MS);
  let after: TrackedJob | undefined;
  while (clock.monotonic() < ending) {
    const jobs = await listOldJobs(catalog, isoTime(clock.now() - days * DAY_MS), after, JOBS_AT_ONCE);
    for (const job of jobs) {
      const family = [...(await descendants(catalog, job.id)), job];
      if (family.some(({ status }) => status === 'pending' || status === 'running')) continue;
      for (const { id } of family) swept.events += await removeEvents(catalog, id, ending);
      if (clock.monotonic() >= ending) break;
      const keepsRow = family.some((one) => one.status === 'failed' && (one.completed_at ?? '') >= failedBefore);
      // Children first: without their parent they would stand by themselves.
      for (const { id } of keepsRow ? [] : family) await removeEndedJob(catalog, id);
      swept.jobs += keepsRow ? 0 : family.length;
    }
    if (jobs.length < JOBS_AT_ONCE && clock.monotonic() < ending) return { ...swept, finished: true };
    after = jobs.at(-1);
  }
  await setJobRetention(catalog, { sweptAt: null });
  return swept;
}

/** The deepest first. */
async function descendants(catalog: Catalog, id: string): Promise<readonly TrackedJob[]> {
  const children = await listTrackedJobs(catalog, { parentJobId: id });
  const below = await Promise.all(children.map((child) => descendants(catalog, child.id)));
  return [...below.flat(), ...children];
}

async function removeEvents(catalog: Catalog, jobId: string, ending: number): Promise<number> {
  let removed = 0;
  while (catalog.clock.monotonic() < ending) {
    const gone = await removeOldestEvents(catalog, jobId, EVENTS_AT_ONCE);
    removed += gone;
    if (gone < EVENTS_AT_ONCE) break;
  }
  return removed;
}
