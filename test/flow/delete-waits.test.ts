// A delete takes nothing away under a restore or a verify that reads it: it waits, and says for whom.

import { readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { expect, it } from 'vitest';
import { noise, refusal, scratchHome } from './scratch-home.ts';

it('a backup that is being restored is deleted afterwards', async ({ onTestFinished }) => {
  const user = scratchHome(onTestFinished);
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(16 << 20, 1));
  const { backup_id: full } = await user.backup(disk, 'vm');
  writeFileSync(disk, noise(1 << 20, 2), { flag: 'r+' });
  const { backup_id: newest } = await user.backup(disk, 'vm');
  const target = user.path('out.img');
  const restore = user.startWithFault('pread64:delay_enter=100000', user.image(full), 'restore', newest, target, '--json');
  await user.appears('.out.img.chainkeep-*');
  const deleted = user.json('delete', newest);
  expect((await restore.ended).code).toBe(0);
  await deleted;
  expect(readFileSync(target).equals(readFileSync(disk))).toBe(true);
  expect((await user.list()).map((backup) => backup.backup_id)).toEqual([full]);
  const [job, reader] = await user.jobs();
  expect(job).toMatchObject({ job_type: 'delete', status: 'completed' });
  const log = await user.jobLog(String(job?.job_id));
  expect(log.map((event) => event.message)).toContain(`waiting for job ${reader?.job_id}, which reads the backup`);
});

it('a reader that was killed keeps nothing from being deleted', async ({ onTestFinished }) => {
  const user = scratchHome(onTestFinished);
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(8 << 20, 1));
  const { backup_id: full } = await user.backup(disk, 'vm');
  const verify = user.startWithFault('pread64:delay_enter=100000', user.image(full), 'verify', full, '--json');
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
