// Who may end a job: the process that runs it for as long as it is heard of, somebody else only after that, and never both.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { findHeartbeat, JOB_HEARTBEATS, renewHeartbeat, requestCancel } from '../../src/catalog/job-heartbeats.ts';
import { listJobSteps } from '../../src/catalog/job-steps.ts';
import { claimTrackedJob, insertTrackedJob, listUnendedJobs, resolveTrackedJob, updateTrackedJob } from '../../src/catalog/job-tracking.ts';
import { openCatalog } from '../../src/catalog/open-catalog.ts';
import { sql } from '../../src/catalog/sql.ts';
import { update } from '../../src/catalog/table.ts';
import { currentOwner } from '../../src/control/owner.ts';
import { SILENT_AFTER } from '../../src/jobs/heartbeat.ts';
import type { JobContext } from '../../src/jobs/job.ts';
import { runJob } from '../../src/jobs/runner.ts';
import { settleDeadJobs } from '../../src/jobs/settle.ts';
import { isoTime, systemClock } from '../../src/plumbing/clock.ts';
import { AT, type DatabasePlace, openScratch } from '../catalog/scratch-catalog.ts';

const LOGGER = fileURLToPath(new URL('./log-process.ts', import.meta.url));
const failed = async () => ({ status: 'failed', message: 'nothing was heard of it' }) as const;

async function openSite() {
  const { catalog, place } = await openScratch();
  const owner = await currentOwner(catalog);
  const dependencies = { catalog, clock: systemClock, owner };
  const run = <T>(work: (context: JobContext) => Promise<T>) => runJob(dependencies, { jobType: 'x', operation: 'x' }, {}, work);
  return { catalog, place, owner, dependencies, run };
}

/** Makes the job as silent as if it had said nothing for so long. */
async function silence(catalog: Catalog, id: string, milliseconds: number): Promise<void> {
  await update(catalog, JOB_HEARTBEATS, { beat_at: isoTime(Date.now() - milliseconds) }, sql`job_id = ${id}`);
}

describe('a running job', () => {
  it('has a heartbeat, and none once it has ended', async () => {
    const { catalog, run } = await openSite();
    const { jobId } = await run(async (job) => {
      expect(Date.now() - Date.parse((await findHeartbeat(catalog, job.jobId))?.beat_at ?? '')).toBeLessThan(5000);
    });
    expect(await findHeartbeat(catalog, jobId)).toBeUndefined();
  });

  it('sees within two seconds that another process wants it to stop', async () => {
    const { catalog, run } = await openSite();
    let asked = 0;
    const work = run(async ({ jobId, signal }) => {
      await requestCancel(catalog, [jobId], 'cancelled by jobs cancel');
      asked = performance.now();
      await wait(30_000, undefined, { signal });
    });
    await expect(work).rejects.toMatchObject({ code: 'CANCELLED', message: 'cancelled by jobs cancel' });
    expect(performance.now() - asked).toBeLessThan(5000); // two seconds, and a busy machine
  });

  it('that was settled by somebody else is told so and cannot write a change of state any more', async () => {
    const { catalog, run } = await openSite();
    let id = '';
    const work = run(async ({ jobId, signal, step, setMetadata }) => {
      id = jobId;
      await updateTrackedJob(catalog, jobId, { status: 'failed', error_message: 'settled' });
      await expect(step('late', async () => undefined)).rejects.toMatchObject({ code: 'JOB_LOST' });
      expect(signal.reason).toMatchObject({ code: 'JOB_LOST' });
      await expect(setMetadata({ late: true })).rejects.toMatchObject({ code: 'JOB_LOST' });
    });
    await expect(work).rejects.toMatchObject({ code: 'JOB_LOST' });
    expect(await resolveTrackedJob(catalog, id)).toMatchObject({ status: 'failed', error_message: 'settled', metadata: {} });
    expect(await listJobSteps(catalog, id)).toEqual([]);
  });

  it('hears of it without doing anything', async () => {
    const { catalog, run } = await openSite();
    const work = run(async ({ jobId, signal }) => {
      await updateTrackedJob(catalog, jobId, { status: 'failed' });
      await wait(30_000, undefined, { signal });
    });
    await expect(work).rejects.toMatchObject({ code: 'JOB_LOST' });
  });
});

describe('a job that nothing was heard of', () => {
  it('is settled after the silence when its process cannot be looked at from here, never before', async () => {
    const { catalog, owner, dependencies } = await openSite();
    const job = { job_type: 'x', operation: 'x', status: 'running', created_at: AT } as const;
    await insertTrackedJob(catalog, { ...job, id: 'elsewhere', owner: { ...owner, hostname: 'another' } });
    await insertTrackedJob(catalog, { ...job, id: 'container', owner: { ...owner, pid_namespace: 'pid:[1]' } });
    await insertTrackedJob(catalog, { ...job, id: 'here', owner });
    for (const id of ['elsewhere', 'container', 'here']) await silence(catalog, id, SILENT_AFTER - 10_000);
    expect(await settleDeadJobs(dependencies, failed)).toEqual([]);
    for (const id of ['elsewhere', 'container', 'here']) await silence(catalog, id, SILENT_AFTER + 10_000);
    expect((await settleDeadJobs(dependencies, failed)).map((one) => one.jobId).toSorted()).toEqual(['container', 'elsewhere']);
    // A process that can be looked at and is there is never settled by its silence: stopped, it may go on.
    expect(await resolveTrackedJob(catalog, 'here')).toMatchObject({ status: 'running' });
  });

  it('is not claimed when it is heard of again in the last moment', async () => {
    const { catalog, owner } = await openSite();
    const far = { ...owner, hostname: 'another' };
    await insertTrackedJob(catalog, { id: 'a', job_type: 'x', operation: 'x', status: 'running', created_at: AT, owner: far });
    await silence(catalog, 'a', SILENT_AFTER * 2);
    const [silent] = await listUnendedJobs(catalog);
    if (!silent) throw new Error('no job');
    await renewHeartbeat(catalog, 'a');
    expect(await claimTrackedJob(catalog, silent, far, owner)).toBe(false);
    await silence(catalog, 'a', SILENT_AFTER * 2);
    const [again] = await listUnendedJobs(catalog);
    expect(again && (await claimTrackedJob(catalog, again, far, owner))).toBe(true);
    expect(again && (await claimTrackedJob(catalog, again, far, owner))).toBe(false);
  });

  it('ends in its own process, once that goes on again, without touching what was settled', async () => {
    const { catalog, place, dependencies } = await openSite();
    const { child, said, output } = startElsewhere(place);
    const jobId = (await said(/^job (.*)$/m))[1] ?? '';
    await said(/line 50 /);
    await stopBetweenWrites(child, place, () => silence(catalog, jobId, SILENT_AFTER + 1000));
    expect((await settleDeadJobs(dependencies, failed)).map((one) => one.jobId)).toEqual([jobId]);
    const settled = await resolveTrackedJob(catalog, jobId);
    const steps = await listJobSteps(catalog, jobId);
    child.kill('SIGCONT');
    await once(child, 'close');
    expect(output()).toContain('JOB_LOST\n');
    expect(await resolveTrackedJob(catalog, jobId)).toEqual(settled);
    expect(await listJobSteps(catalog, jobId)).toEqual(steps);
  });
});

/** A process that is stopped in the middle of a write of its own holds SQLite's lock for as long. */
async function stopBetweenWrites(child: ChildProcess, place: DatabasePlace, then: () => Promise<void>): Promise<void> {
  const impatient = await openCatalog({ ...place, clock: systemClock, busyTimeout: 200 });
  onTestFinished(() => impatient.close());
  for (let attempt = 0; attempt < 20; attempt += 1) {
    child.kill('SIGSTOP');
    const free = await impatient.transaction(async () => true).catch(() => false);
    if (free) return then();
    child.kill('SIGCONT');
    await wait(37);
  }
  throw new Error('it always wrote');
}

function startElsewhere({ url, password }: DatabasePlace) {
  const child: ChildProcess = spawn(process.execPath, [LOGGER, url, 'turns', '100000', 'another-machine'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, DATABASE_PASSWORD: password },
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  let output = '';
  child.stdout?.on('data', (text) => {
    output += text;
  });
  const said = async (pattern: RegExp): Promise<RegExpExecArray> => {
    for (let waited = 0; waited < 30_000; waited += 20) {
      const found = pattern.exec(output);
      if (found) return found;
      await wait(20);
    }
    throw new Error(`it did not say ${pattern}: ${output.slice(-500)}`);
  };
  return { child, said, output: () => output };
}
