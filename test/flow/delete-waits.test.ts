// A delete takes nothing away under a restore or a verify that reads it: it waits, and says for whom.

import { readFileSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { noise, scratchHome } from './scratch-home.ts';

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
