// What a killed process leaves in the job log, and how the next one settles it.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { listChains } from '../../src/catalog/backup-chains.ts';
import { findBackupJob, insertBackupJob } from '../../src/catalog/backup-jobs.ts';
import { insertJobStep, listJobSteps } from '../../src/catalog/job-steps.ts';
import { insertTrackedJob, listTrackedJobs, resolveTrackedJob } from '../../src/catalog/job-tracking.ts';
import { listLogEvents } from '../../src/catalog/log-events.ts';
import { currentOwner } from '../../src/control/owner.ts';
import { settleDeadJobs } from '../../src/jobs/settle.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { AT, addRepository, addVm, backupRow, openScratch } from '../catalog/scratch-catalog.ts';

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
  it('loses no line that it has logged and no step that it has ended, and its job is settled at the next start', async () => {
    const { catalog, path } = await openScratch();
    const child = spawn(process.execPath, [LOGGER, path], { stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.on('data', (text) => {
      output += text;
      if (output.includes('line 300\n')) child.kill('SIGKILL');
    });
    await once(child, 'close');
    expect(child.signalCode).toBe('SIGKILL');
    const printed = output.split('\n').filter((line, index, all) => index < all.length - 1 && line !== '');
    const jobId = printed[0]?.slice('job '.length) ?? '';
    const lines = (await listLogEvents(catalog, jobId)).map((event) => event.message);
    expect(lines.length).toBeGreaterThan(300);
    for (const line of printed.filter((text) => text.startsWith('line '))) expect(lines).toContain(line);
    const steps = (await listJobSteps(catalog, jobId)).filter((step) => step.status === 'completed').map((step) => step.name);
    for (const step of printed.filter((text) => text.startsWith('step '))) expect(steps).toContain(step);

    expect(await resolveTrackedJob(catalog, jobId)).toMatchObject({ status: 'running' });
    const dependencies = { catalog, clock: systemClock, owner: await currentOwner(catalog) };
    const settled = await settleDeadJobs(dependencies, async () => ({ status: 'failed', message: 'the process was killed' }));
    expect(settled.map((one) => one.jobId)).toEqual([jobId]);
  });
});
