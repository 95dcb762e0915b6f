// A delete takes nothing away under a restore or a verify that reads it: it waits, and says for whom.

import { readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { expect, it } from 'vitest';
import { heldDisk } from './held-disk.ts';
import { noise, refusal, type ScratchHome, scratchHome } from './scratch-home.ts';

it('a backup that is being restored is deleted afterwards', async ({ onTestFinished }) => {
  const user = scratchHome(onTestFinished);
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(16 << 20, 1));
  const { backup_id: full } = await user.backup(disk, 'vm');
  writeFileSync(disk, noise(1 << 20, 2), { flag: 'r+' });
  const { backup_id: newest } = await user.backup(disk, 'vm');
  const restored = Buffer.alloc(16 << 20);
  const target = await heldDisk(user, restored);
  const restore = user.start('restore', newest, target.address, '--force', '--json');
  await target.begun;
  const deleted = user.json('delete', newest);
  await waitsFor(user, 'restore');
  target.letGo();
  expect((await restore.ended).code).toBe(0);
  await deleted;
  expect(restored.equals(readFileSync(disk))).toBe(true);
  expect((await user.list()).map((backup) => backup.backup_id)).toEqual([full]);
  expect((await user.jobs())[0]).toMatchObject({ job_type: 'delete', status: 'completed' });
});

/** Resolves when the log of the running delete says that it waits for the job of that type. */
async function waitsFor(user: ScratchHome, type: string): Promise<void> {
  for (;;) {
    const jobs = await user.jobs('--status', 'running');
    const [job, reader] = ['delete', type].map((name) => jobs.find(({ job_type }) => job_type === name));
    if (!job) continue;
    const log = await user.jobLog(job.job_id);
    if (log.some(({ message }) => message === `waiting for job ${reader?.job_id}, which reads the backup`)) return;
  }
}

it('a reader that was killed keeps nothing from being deleted', async ({ onTestFinished }) => {
  const user = scratchHome(onTestFinished);
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(8 << 20, 1));
  const { backup_id: full } = await user.backup(disk, 'vm');
  const verify = user.startWithFault('pread64:delay_enter=3000000', user.image(full), 'verify', full, '--json');
  for (;;) if ((await user.jobs('--status', 'running')).length > 0) break;
  verify.kill('SIGKILL');
  await verify.ended;
  await user.json('delete', full);
  expect(await user.list()).toEqual([]);
});

it('a delete that fails behind the sidecar leaves no backup that is none, and its rest goes with the next run', async ({
  onTestFinished,
}) => {
  const user = scratchHome(onTestFinished);
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(1 << 20, 1));
  const { backup_id: full } = await user.backup(disk, 'vm');
  writeFileSync(disk, noise(1000, 2), { flag: 'r+' });
  const { backup_id: newest } = await user.backup(disk, 'vm');
  const faulty = user.startWithFault('fsync:error=EIO:when=1', dirname(user.image(newest)), 'delete', newest, '--json');
  refusal(await faulty.ended, 'STORE_FAILED');
  expect(await user.list()).toMatchObject([
    { backup_id: newest, status: 'failed' },
    { backup_id: full, status: 'completed' },
  ]);
  const next = await user.backup(disk, 'vm');
  expect(next).toMatchObject({ backup_type: 'incremental', parent_backup_id: full });
  expect(user.files().filter((file) => file.includes(newest))).toEqual([]);
  await user.verifyAll();
  await user.json('delete', newest);
  expect((await user.list()).map((backup) => backup.backup_id)).toEqual([next.backup_id, full]);
});
