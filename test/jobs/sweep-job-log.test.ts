// What goes out of the job log with time, and what stays.

import { describe, expect, it } from 'vitest';
import { removeOldJobsWhenDue } from '../../src/app-jobs.ts';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { findJobRetention, setJobRetention } from '../../src/catalog/job-retention.ts';
import { insertJobStep, listJobSteps } from '../../src/catalog/job-steps.ts';
import { insertTrackedJob, listTrackedJobs, type NewTrackedJob } from '../../src/catalog/job-tracking.ts';
import { insertLogEvent, insertLogEvents, listLogEvents } from '../../src/catalog/log-events.ts';
import { sweepJobLog } from '../../src/jobs/sweep-job-log.ts';
import { isoTime } from '../../src/plumbing/clock.ts';
import { openScratch, setClock } from '../catalog/scratch-catalog.ts';

const DAY = 86_400_000;

async function openLog() {
  const clock = setClock();
  const { catalog } = await openScratch(clock);
  const add = async (id: string, daysAgo: number, other: Partial<NewTrackedJob> = {}) => {
    const at = isoTime(clock.now() - daysAgo * DAY);
    const ended = { status: 'completed', completed_at: at, ...other } as const;
    await insertTrackedJob(catalog, { id, job_type: 'x', operation: id, created_at: at, ...ended });
    await insertJobStep(catalog, { id: `s-${id}`, job_id: id, seq: 1, name: 'step', started_at: at });
    await insertLogEvent(catalog, id, { level: 'info', message: `of ${id}`, stepId: `s-${id}` });
  };
  return { catalog, clock, add };
}

async function left(catalog: Catalog): Promise<string[]> {
  return (await listTrackedJobs(catalog, {})).map((job) => job.id).toSorted();
}

describe('old jobs', () => {
  it('go with their steps, lines and children; younger ones and those that have not ended stay', async () => {
    const { catalog, add } = await openLog();
    await add('old', 91);
    await add('old-child', 91, { parent_job_id: 'old' });
    await add('old-grandchild', 91, { parent_job_id: 'old-child', status: 'failed' });
    await add('cancelled', 400, { status: 'cancelled' });
    await add('young', 89);
    await add('running', 200, { status: 'running', completed_at: null });
    await add('parent', 200);
    await add('running-child', 200, { parent_job_id: 'parent', status: 'running', completed_at: null });
    expect(await sweepJobLog(catalog)).toMatchObject({ finished: true });
    // A failure keeps the row of the jobs around it, too.
    expect(await left(catalog)).toEqual(['old', 'old-child', 'old-grandchild', 'parent', 'running', 'running-child', 'young']);
    expect(await listLogEvents(catalog, 'old')).toEqual([]);
    expect(await listLogEvents(catalog, 'parent')).toHaveLength(1);
    expect(await listJobSteps(catalog, 'cancelled')).toEqual([]);
    expect(await listJobSteps(catalog, 'young')).toHaveLength(1);
  });

  it('that failed lose their lines, and stay with their steps for a year', async () => {
    const { catalog, add } = await openLog();
    await add('failed', 100, { status: 'failed', error_message: 'the reason' });
    await add('long-ago', 366, { status: 'failed' });
    await sweepJobLog(catalog);
    expect(await left(catalog)).toEqual(['failed']);
    expect(await listLogEvents(catalog, 'failed')).toEqual([]);
    expect(await listJobSteps(catalog, 'failed')).toHaveLength(1);
  });

  it('stay as long as it was asked for', async () => {
    const { catalog, add } = await openLog();
    await add('a', 20);
    await add('b', 500, { status: 'failed' });
    await setJobRetention(catalog, { days: 600 });
    await sweepJobLog(catalog);
    expect(await left(catalog)).toEqual(['a', 'b']);
    await setJobRetention(catalog, { days: 10 });
    await sweepJobLog(catalog);
    expect(await left(catalog)).toEqual([]);
  });
});

describe('the work of it', () => {
  it('is done once a day, by whoever starts first', async () => {
    const { catalog, clock, add } = await openLog();
    await add('first', 91);
    await removeOldJobsWhenDue(catalog);
    expect(await left(catalog)).toEqual([]);
    await add('second', 91);
    clock.advance(DAY - 1000);
    await removeOldJobsWhenDue(catalog);
    expect(await left(catalog)).toEqual(['second']);
    clock.advance(2000);
    await removeOldJobsWhenDue(catalog);
    expect(await left(catalog)).toEqual([]);
  });

  it('stops when its time is over, goes on at the next start, and takes long logs in pieces', async () => {
    const { catalog, add } = await openLog();
    await add('long', 100);
    const ts = isoTime(Date.now());
    for (let batch = 0; batch < 5; batch += 1) {
      const events = Array.from({ length: 500 }, (_, line) => {
        const at = ts.replace('Z', `${String(batch * 100 + (line % 100)).padStart(3, '0')}Z`);
        return { level: 'info', message: 'x', attrs: null, stepId: null, ts: at, since: 0 } as const;
      });
      await insertLogEvents(catalog, 'long', events);
    }
    expect(await sweepJobLog(catalog, 0)).toMatchObject({ jobs: 0, finished: false });
    expect(await left(catalog)).toEqual(['long']);
    expect((await findJobRetention(catalog))?.isDue).toBe(true);
    expect(await sweepJobLog(catalog)).toMatchObject({ jobs: 1, events: 2501, finished: true });
    expect((await findJobRetention(catalog))?.isDue).toBe(false);
  });

  it('two at once take nothing twice and nothing too much', async () => {
    const { catalog, add } = await openLog();
    for (let job = 0; job < 120; job += 1) await add(`old-${job}`, 91);
    await add('young', 1);
    await Promise.all([sweepJobLog(catalog), sweepJobLog(catalog)]);
    expect(await left(catalog)).toEqual(['young']);
  });
});
