// What a killed process leaves in the job log, and how the next one settles it.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { listChains } from '../../src/catalog/backup-chains.ts';
import { findBackupJob, insertBackupJob } from '../../src/catalog/backup-jobs.ts';
import { findHeartbeat } from '../../src/catalog/job-heartbeats.ts';
import { insertJobStep, listJobSteps } from '../../src/catalog/job-steps.ts';
import { insertTrackedJob, listTrackedJobs, resolveTrackedJob } from '../../src/catalog/job-tracking.ts';
import { listLogEvents } from '../../src/catalog/log-events.ts';
import { addReservation, listReservations } from '../../src/catalog/space-reservations.ts';
import { currentOwner } from '../../src/control/owner.ts';
import { settleDeadJobs } from '../../src/jobs/settle.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { AT, addRepository, addVm, backupRow, ON_MARIADB, openScratch } from '../catalog/scratch-catalog.ts';

const LOGGER = fileURLToPath(new URL('./log-process.ts', import.meta.url));

/** Two running jobs and a pending one of a dead process, one of this process, one of another machine, one that waits in a queue. */
async function openSite() {
  const { catalog } = await openScratch();
  const self = await currentOwner(catalog);
  const dead = { ...self, pid: 2 ** 22, process_started: 1 };
  const job = { job_type: 'backup', operation: 'x', created_at: AT, status: 'running' } as const;
  await insertTrackedJob(catalog, { ...job, id: 'dead-1', owner: dead, metadata: { backup: 'b1' } });
  await insertTrackedJob(catalog, { ...job, id: 'dead-2', owner: dead });
  await insertTrackedJob(catalog, { ...job, id: 'dead-3', owner: dead, status: 'pending' });
  await insertTrackedJob(catalog, { ...job, id: 'mine', owner: self });
  await insertTrackedJob(catalog, { ...job, id: 'far', owner: { ...dead, hostname: 'elsewhere' } });
  await insertTrackedJob(catalog, { ...job, id: 'queued', status: 'pending' });
  return { catalog, self, dead, dependencies: { catalog, clock: systemClock, owner: self } };
}

describe('jobs of dead processes', () => {
  it('are settled as decided, with their steps and backups; others are left alone', async () => {
    const { catalog, dead, dependencies } = await openSite();
    await addRepository(catalog);
    await addVm(catalog);
    await insertBackupJob(catalog, { ...backupRow('b1', 1), status: 'running' });
    await insertBackupJob(catalog, { ...backupRow('b2', 2), status: 'running' });
    await insertJobStep(catalog, { id: 's1', job_id: 'dead-2', seq: 1, name: 'copy', started_at: AT });
    for (const jobId of ['dead-1', 'dead-2', 'mine'])
      await addReservation(catalog, { repositoryId: 'repo-1', jobId, owner: dead, bytes: 100, expiry: 60_000 });
    const settled = await settleDeadJobs(dependencies, async (job, owner) => {
      expect(owner).toEqual(dead);
      if (job.id === 'dead-1') {
        const backup = backupRow('b1', 1, { chain_id: 'c1' });
        return { status: 'completed', message: 'recovered', backups: [{ status: 'completed', backup }] };
      }
      return { status: 'failed', message: 'the process ended', backups: [{ status: 'failed', id: 'b2', message: 'the process ended' }] };
    });
    expect(settled.map((one) => one.jobId).toSorted()).toEqual(['dead-1', 'dead-2', 'dead-3']);
    expect(await resolveTrackedJob(catalog, 'dead-1')).toMatchObject({
      status: 'completed',
      error_message: null,
      percent_complete: 100,
      metadata: { backup: 'b1', settled: 'recovered' },
    });
    expect(await resolveTrackedJob(catalog, 'dead-2')).toMatchObject({ status: 'failed', error_message: 'the process ended' });
    expect(await listJobSteps(catalog, 'dead-2')).toMatchObject([
      { status: 'failed', error_message: expect.stringContaining('process ended') },
    ]);
    expect(await listLogEvents(catalog, 'dead-2')).toMatchObject([
      { level: 'warn', message: expect.stringContaining('the process ended') },
    ]);
    expect((await listReservations(catalog, 'repo-1')).map(({ job_id }) => job_id)).toEqual(['mine']);
    expect(await findBackupJob(catalog, 'b1')).toMatchObject({ status: 'completed', chain_id: 'c1' });
    expect(await findBackupJob(catalog, 'b2')).toMatchObject({ status: 'failed', error_message: 'the process ended' });
    expect((await listChains(catalog, { vmContextId: 'vm-1' })).map((chain) => chain.latest_backup_id)).toEqual(['b1']);
    const left = await listTrackedJobs(catalog, { statuses: ['pending', 'running'] });
    expect(left.map((job) => job.id).toSorted()).toEqual(['far', 'mine', 'queued']);
    expect(await settleDeadJobs(dependencies, async () => ({ status: 'failed', message: 'never' }))).toEqual([]);
  });

  it('one that cannot be decided now stays, keeps its owner, and does not keep the others', async () => {
    const { catalog, dead, dependencies } = await openSite();
    const offline = new Error('the repository is offline');
    const settled = await settleDeadJobs(dependencies, async (job) => {
      if (job.id === 'dead-2') throw offline;
      return { status: 'failed', message: 'the process ended' };
    });
    expect(settled).toHaveLength(3);
    expect(settled).toContainEqual({ jobId: 'dead-2', error: offline });
    expect(await resolveTrackedJob(catalog, 'dead-2')).toMatchObject({ status: 'running', owner: dead });
    expect(await settleDeadJobs(dependencies, async () => ({ status: 'cancelled', message: 'x' }))).toMatchObject([{ jobId: 'dead-2' }]);
    expect(await resolveTrackedJob(catalog, 'dead-2')).toMatchObject({ status: 'cancelled', canceled_at: expect.any(String) });
  });

  it('are each settled by one of several who start at once', async () => {
    const { dependencies } = await openSite();
    const decided: string[] = [];
    const settle = () =>
      settleDeadJobs(dependencies, async (job) => {
        decided.push(job.id);
        await wait(20);
        return { status: 'failed', message: 'x' };
      });
    const [first = [], second = []] = await Promise.all([settle(), settle()]);
    expect(decided.toSorted()).toEqual(['dead-1', 'dead-2', 'dead-3']);
    expect(first.length + second.length).toBe(3);
  });
});

describe('a process killed under load', () => {
  it.skipIf(ON_MARIADB)('that never waits for anything loses at most the last second of its lines', async () => {
    await expectKilled('busy');
  });

  it('that waits now and then loses at most the last second of its lines', async () => {
    await expectKilled('turns');
  });

  it('loses no step that it has ended and no line before it, and its job is settled at the next start', async () => {
    const { catalog, jobId, printed, logged } = await expectKilled('steps');
    const ended = printed.filter((text) => text.startsWith('step '));
    const steps = (await listJobSteps(catalog, jobId)).filter((step) => step.status === 'completed').map((step) => step.name);
    for (const step of ended) expect(steps).toContain(step);
    for (let line = 0; line <= Number(ended.at(-1)?.slice('step '.length)); line += 1) expect(logged).toContain(`line ${line}`);

    expect(await resolveTrackedJob(catalog, jobId)).toMatchObject({ status: 'running' });
    const dependencies = { catalog, clock: systemClock, owner: await currentOwner(catalog) };
    const settled = await settleDeadJobs(dependencies, async () => ({ status: 'failed', message: 'the process was killed' }));
    expect(settled.map((one) => one.jobId)).toEqual([jobId]);
    expect(await findHeartbeat(catalog, jobId)).toBeUndefined();
  });
});

/** Kills the process after three seconds of logging; whatever it had logged a second before its end must be there. */
async function expectKilled(mode: string) {
  const { catalog, place } = await openScratch();
  const child = spawn(process.execPath, [LOGGER, place.url, mode], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, DATABASE_PASSWORD: place.password },
  });
  let output = '';
  child.stdout.on('data', (text) => {
    output += text;
  });
  child.stdout.once('data', () => setTimeout(() => child.kill('SIGKILL'), 3000));
  await once(child, 'close');
  expect(child.signalCode).toBe('SIGKILL');
  const printed = output.split('\n').slice(0, -1);
  const jobId = printed[0]?.slice('job '.length) ?? '';
  const logged = (await listLogEvents(catalog, jobId)).map((event) => event.message);
  const lines = printed.filter((text) => text.startsWith('line ')).map((text) => text.split(' '));
  const end = Number(lines.at(-1)?.[2]);
  const old = lines.filter(([, , at]) => end - Number(at) > 1000).map(([, number]) => `line ${number}`);
  expect(old.length).toBeGreaterThan(100);
  expect(logged.slice(0, old.length)).toEqual(old);
  return { catalog, jobId, printed, logged };
}
