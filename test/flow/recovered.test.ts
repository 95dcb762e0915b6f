// What dead processes and a silent database leave behind, found and settled by the next command.

import { globSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import Database from 'better-sqlite3';
import { expect, it } from 'vitest';
import { noise, type ScratchHome, scratchHome } from './scratch-home.ts';

// No machine is so slow that the backup ends before somebody has looked at it.
const SLOW = 'pread64:delay_enter=1000000';

async function killBackup(user: ScratchHome, disk: string): Promise<void> {
  const run = user.startWithFault(SLOW, disk, 'backup', disk, '--vm', 'vm');
  await user.appears('**/*.qcow2.tmp-*');
  run.kill('SIGKILL');
  await run.ended;
}

it('a killed backup is told in the job log, and its disk is free at once', async () => {
  const user = scratchHome();
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(8 << 20, 1));
  const first = await user.backup(disk, 'vm');
  const before = user.files();
  await killBackup(user, disk);
  expect(user.files()).not.toEqual(before);
  const [failed] = await user.list();
  expect(failed).toMatchObject({ status: 'failed' });
  expect(await user.json('show', String(failed?.backup_id))).toMatchObject({ error_message: expect.stringContaining('died') });
  expect(user.files()).toEqual(before);
  const [job] = await user.jobs();
  expect(job).toMatchObject({ status: 'failed', error_message: expect.stringContaining('died') });
  expect((await user.showJob(String(job?.job_id))).steps.at(-1)).toMatchObject({ status: 'failed' });
  expect(await user.backup(disk, 'vm')).toMatchObject({ backup_type: 'incremental', parent_backup_id: first.backup_id });
});

it('a job whose repository is gone for good is settled when the repository is forgotten', async () => {
  const user = scratchHome();
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(8 << 20, 1));
  await user.json('repo', 'add', 'usb', '--path', user.path('usb'));
  await killBackup(user, disk);
  renameSync(user.path('usb'), user.path('lost'));
  // Until then it may come back, and nothing is in the way of other work.
  expect(await user.list('--status', 'running')).toHaveLength(1);
  await user.json('repo', 'add', 'default', '--path', user.path('new'));
  await user.backup(disk, 'vm');
  await user.json('repo', 'remove', 'usb', '--forget');
  expect(await user.jobs('--status', 'running')).toEqual([]);
  expect(await user.list('--status', 'running')).toEqual([]);
});

it('what became of a backup while the database was silent is found by the next command', async () => {
  const user = scratchHome();
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(300_000, 1));
  const { backup_id: committed, job_id: job } = await user.backup(disk, 'vm');
  const { backup_id: deleted } = await user.backup(disk, 'vm');
  for (const file of globSync(`**/${deleted}.*`, { cwd: user.folder })) rmSync(user.path(file));
  // As it stands there when the rows of the backups could not be written after the transfer, and the end of their jobs could.
  const database = new Database(user.path('home/catalog.sqlite'));
  database.prepare(`update backup_jobs set status = 'running', completed_at = null`).run();
  database.prepare(`update job_tracking set status = 'failed'`).run();
  database.prepare(`update backup_chains set latest_backup_id = ?, total_backups = 1`).run(committed);
  database.close();
  expect((await user.list()).map(({ backup_id: id, status }) => [id, status])).toEqual([
    [deleted, 'failed'],
    [committed, 'completed'],
  ]);
  const lines = (await user.jobLog(job)).map(({ message }) => message);
  expect(lines).toContain(`backup ${committed} was settled after its job: completed`);
  expect(await user.backup(disk, 'vm')).toMatchObject({ backup_type: 'incremental', parent_backup_id: committed });
  expect(await user.json('chain', '--vm', 'vm')).toMatchObject({ chains: [{ total_backups: 2 }] });
  await user.verifyAll();
});

it('a backup whose disk somebody writes at this moment is left to him', async () => {
  const user = scratchHome();
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(8 << 20, 1));
  const { backup_id: id } = await user.backup(disk, 'vm');
  const run = user.startWithFault(SLOW, disk, 'backup', disk, '--vm', 'vm');
  await user.appears('**/*.qcow2.tmp-*');
  const database = new Database(user.path('home/catalog.sqlite'));
  database.prepare(`update backup_jobs set status = 'running' where id = ?`).run(id);
  database.close();
  expect((await user.list()).map(({ status }) => status)).toEqual(['running', 'running']);
  run.kill('SIGKILL');
  await run.ended;
  expect((await user.list()).map(({ status }) => status)).toEqual(['failed', 'completed']);
});
