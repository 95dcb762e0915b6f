// The job log as a user reads it: pages, one job with all of it, its lines while it runs, and the wish that it ends.

import { writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import type { JobDetails, JobPage } from '../../src/app-interface.ts';
import { noise, refusal, sharedScratchHome } from './scratch-home.ts';

const MIB = 1 << 20;
const SLOW = 'pread64:delay_enter=150000';
const user = sharedScratchHome();
const disk = user.path('disk.img');

beforeAll(async () => {
  writeFileSync(disk, noise(40 * MIB, 1));
  await user.backup(disk, 'vm');
});

function slowBackup(fault = SLOW) {
  writeFileSync(disk, noise(MIB, Date.now() % 1000), { flag: 'r+' });
  return user.startWithFault(fault, disk, 'backup', disk, '--vm', 'vm', '--json');
}

async function runningJob(): Promise<JobDetails> {
  await user.appears('**/*.qcow2.tmp-*');
  const [job] = await user.jobs('--status', 'running');
  return user.json('jobs', 'show', String(job?.job_id));
}

describe('a running job', () => {
  it('is shown with its process and its heartbeat, and is stopped from another process', async () => {
    const run = slowBackup('pread64:delay_enter=400000');
    const { job } = await runningJob();
    expect(job).toMatchObject({ status: 'running', cancel_requested_at: null, owner: { pid: run.pid } });
    expect(Date.parse(job.heartbeat_at ?? '')).toBeGreaterThan(Date.now() - 60_000);
    const followed = user.json<{ events: readonly { message: string }[] }>('jobs', 'log', job.job_id, '--follow');
    expect(await user.json('jobs', 'cancel', job.job_id)).toMatchObject({ success: true, job_id: job.job_id, status: 'cancelling' });
    const refused = refusal(await run.ended, 'CANCELLED');
    expect(refused.error).toContain('jobs cancel');
    const { job: after } = await user.json<JobDetails>('jobs', 'show', job.job_id);
    expect(after).toMatchObject({ status: 'cancelled', error_message: refused.error, heartbeat_at: null });
    expect((await followed).events.map((event) => event.message)).toContain(refused.error);
    await user.refused('JOB_ENDED', 'jobs', 'cancel', job.job_id);
    // Nothing half done is left: the next backup builds on the chain.
    expect(await user.backup(disk, 'vm')).toMatchObject({ backup_type: 'incremental' });
  });

  it('is followed in words until it ends', async () => {
    const run = slowBackup();
    const { job } = await runningJob();
    const log = user.start('jobs', 'log', job.job_id, '--follow');
    expect((await run.ended).code).toBe(0);
    const { code, stdout } = await log.ended;
    expect(code).toBe(0);
    expect(stdout).toContain('incremental backup');
  });

  it('that is followed goes on when the follower is interrupted', async () => {
    const run = slowBackup();
    const { job } = await runningJob();
    const log = user.start('jobs', 'log', job.job_id, '--follow');
    await log.printed('incremental backup');
    log.kill('SIGINT');
    expect(await log.ended).toMatchObject({ code: 0, stderr: '' });
    expect((await run.ended).code).toBe(0);
  });
});

describe('the list', () => {
  it('is read page by page, the newest first', async () => {
    const all = await user.jobs();
    expect(all.length).toBeGreaterThan(3);
    const seen: string[] = [];
    let next: string | null = '';
    while (next !== null) {
      const page: JobPage = await user.json('jobs', '--limit', '2', ...(next === '' ? [] : ['--before', next]));
      expect(page.jobs.length).toBeLessThanOrEqual(2);
      seen.push(...page.jobs.map((job) => job.job_id));
      next = page.next;
    }
    expect(seen).toEqual(all.map((job) => job.job_id));
    expect((await user.run('jobs', '--limit', '1')).stderr).toContain(`chainkeep jobs --before ${all[0]?.job_id}`);
    await user.refused('JOB_NOT_FOUND', 'jobs', '--before', 'nothing');
    for (const limit of ['0', '-1', 'x', '1e3']) await user.refused('USAGE', 'jobs', '--limit', limit);
  });

  it('is kept for 90 days unless something else is wanted', async () => {
    expect(await user.json('jobs', 'retention')).toEqual({ retention_days: 90 });
    expect(await user.json('jobs', 'retention', '--days', '7')).toEqual({ retention_days: 7 });
    expect(await user.json('jobs', 'retention')).toEqual({ retention_days: 7 });
    await user.refused('CONFIG_INVALID', 'jobs', 'retention', '--days', '99999');
    expect((await user.jobs()).length).toBeGreaterThan(3);
  });
});
