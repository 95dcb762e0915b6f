// A job while another process holds the lock of the embedded database, or the database is gone: lines wait, a change of state does not go on without.

import { setTimeout as wait } from 'node:timers/promises';
import Sqlite from 'better-sqlite3';
import { describe, expect, it, onTestFinished } from 'vitest';
import { resolveTrackedJob } from '../../src/catalog/job-tracking.ts';
import { listLogEvents } from '../../src/catalog/log-events.ts';
import { openCatalog } from '../../src/catalog/open-catalog.ts';
import { currentOwner } from '../../src/control/owner.ts';
import type { JobContext } from '../../src/jobs/job.ts';
import { runJob } from '../../src/jobs/runner.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { ON_MARIADB, openScratch } from '../catalog/scratch-catalog.ts';

async function openSite() {
  const { catalog: watching, path, place } = await openScratch();
  const catalog = await openCatalog({ ...place, clock: systemClock, busyTimeout: 50 });
  onTestFinished(() => catalog.close());
  const other = new Sqlite(path);
  onTestFinished(() => void other.close());
  const owner = await currentOwner(watching);
  const notices: string[] = [];
  const run = <T>(work: (job: JobContext) => Promise<T>) =>
    runJob({ catalog, clock: systemClock, owner }, { jobType: 'x', operation: 'x' }, { onNotice: (text) => notices.push(text) }, work);
  return { watching, other, run, notices };
}

describe.skipIf(ON_MARIADB)('while another process holds the lock', () => {
  it('lines wait and are all there afterwards; the job goes on', async () => {
    const { watching, other, run, notices } = await openSite();
    const { jobId } = await run(async ({ logger }) => {
      other.exec('begin immediate');
      for (let line = 0; line < 500; line += 1) logger.log('info', `line ${line}`);
      await wait(1500);
      other.exec('rollback');
      await wait(1500);
    });
    const lines = (await listLogEvents(watching, jobId)).map((event) => event.message);
    expect(lines).toEqual(Array.from({ length: 500 }, (_, line) => `line ${line}`));
    expect(notices).toEqual([expect.stringContaining('database is locked')]);
    expect(await resolveTrackedJob(watching, jobId)).toMatchObject({ status: 'completed' });
  });

  it('a step does not begin: the job fails, and says why', async () => {
    const { watching, other, run } = await openSite();
    let id = '';
    let worked = false;
    const work = run(async ({ jobId, step }) => {
      id = jobId;
      other.exec('begin immediate');
      setTimeout(() => other.exec('rollback'), 700);
      try {
        await step('work', async () => {
          worked = true;
        });
      } finally {
        await wait(1000);
      }
    });
    await expect(work).rejects.toMatchObject({ code: 'CATALOG_FAILED' });
    expect(worked).toBe(false);
    expect(await resolveTrackedJob(watching, id)).toMatchObject({ status: 'failed', metadata: { error_code: 'CATALOG_FAILED' } });
  });

  it('an end that cannot be written is no end: the job is left for the next start', async () => {
    const { watching, other, run } = await openSite();
    let id = '';
    const work = run(async ({ jobId }) => {
      id = jobId;
      other.exec('begin immediate');
    });
    await expect(work).rejects.toMatchObject({ code: 'CATALOG_FAILED' });
    other.exec('rollback');
    expect(await resolveTrackedJob(watching, id)).toMatchObject({ status: 'running' });
  });
});
