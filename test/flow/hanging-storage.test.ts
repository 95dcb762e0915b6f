// A storage that does not answer, for real: system calls on it never return. Every command ends in time, and the other repositories are used as ever.

import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import Database from 'better-sqlite3';
import { expect, it, onTestFinished } from 'vitest';
import type { RepositoryView } from '../../src/app-interface.ts';
import { mountHanging } from '../store/hanging-mount.ts';
import { mountTmpfs } from '../store/temporary-mount.ts';
import { noise, scratchHome } from './scratch-home.ts';

const OFFLINE = { health: 'offline', problem: expect.stringContaining('has not answered') };

it('one repository hangs: it is offline, everything else goes on, and it comes back', async (context) => {
  const user = scratchHome();
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(200_000, 1));
  await user.json('repo', 'add', 'good', '--path', user.path('good'));
  await user.json('repo', 'add', 'dead', '--path', user.path('dead'));
  renameSync(user.path('dead'), user.path('kept'));
  mkdirSync(user.path('dead'));
  const hanging = mountHanging(user.path('dead'));
  if (typeof hanging === 'string') return context.skip(hanging);
  try {
    // Each of these would be killed after a minute.
    const { repositories } = await user.json<{ repositories: readonly RepositoryView[] }>('repo', 'list');
    expect(repositories).toMatchObject([
      { name: 'dead', ...OFFLINE },
      { name: 'good', health: 'healthy', problem: null },
    ]);
    expect(await user.json('repo', 'storage', '--refresh')).toMatchObject({
      repositories: [{ name: 'dead', ...OFFLINE }, { health: 'healthy' }],
    });
    await user.refused('REPOSITORY_OFFLINE', 'backup', disk, '--vm', 'vm', '--repo', 'dead');
    const backup = await user.backup(disk, 'vm', '--repo', 'good');
    await user.expectRestores(backup.backup_id, disk);
    await user.verifyAll('good');
    await user.json('repo', 'add', 'new', '--path', user.path('new'));
    await user.json('repo', 'update', 'dead', '--disable');
    expect(await user.json('repo', 'list')).toMatchObject({ repositories: [{ name: 'dead', enabled: false }, {}, {}] });
  } finally {
    hanging.dispose();
  }
  renameSync(user.path('dead'), user.path('mount-point'));
  renameSync(user.path('kept'), user.path('dead'));
  await user.json('repo', 'update', 'dead', '--enable');
  expect(await user.json('repo', 'show', 'dead')).toMatchObject({ health: 'healthy', problem: null });
  await user.backup(disk, 'vm', '--repo', 'dead');
});

it('a job that died on a repository that hangs is waited for by one command, not by each', async (context) => {
  const user = scratchHome();
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(8 << 20, 1));
  await user.json('repo', 'add', 'dead', '--path', user.path('dead'));
  const run = user.startWithFault('pread64:delay_enter=100000', disk, 'backup', disk, '--vm', 'vm', '--repo', 'dead');
  await user.appears('**/*.qcow2.tmp-*');
  run.kill('SIGKILL');
  await run.ended;
  renameSync(user.path('dead'), user.path('kept'));
  mkdirSync(user.path('dead'));
  const hanging = mountHanging(user.path('dead'));
  if (typeof hanging === 'string') return context.skip(hanging);
  try {
    expect(await user.list()).toMatchObject([{ status: 'running' }]);
    const tried = lastTry(user.path('home/catalog.sqlite'));
    expect(await user.list()).toMatchObject([{ status: 'running' }]);
    expect(lastTry(user.path('home/catalog.sqlite'))).toEqual(tried);
  } finally {
    hanging.dispose();
  }
  renameSync(user.path('dead'), user.path('mount-point'));
  renameSync(user.path('kept'), user.path('dead'));
  await user.backup(disk, 'vm', '--repo', 'dead');
  expect((await user.list()).map(({ status }) => status)).toEqual(['completed', 'failed']);
});

function lastTry(file: string): unknown {
  const database = new Database(file, { readonly: true });
  const row: unknown = database.prepare('select health, last_check_at from backup_repositories').get();
  database.close();
  expect(row).toMatchObject({ health: 'offline', last_check_at: expect.any(String) });
  return row;
}

it('a share hangs: its own process is left behind, every command ends, and it comes back', async (context) => {
  const user = scratchHome();
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(200_000, 1));
  const share = mountTmpfs('size=16m');
  if (typeof share === 'string') return context.skip(share);
  onTestFinished(share.dispose);
  const settings = ['server=nas', 'export_path=/backups', `mount_point=${share.path}`, 'system_mount=tmpfs chainkeep-test'];
  await user.json('repo', 'add', 'share', '--type', 'nfs', ...settings.flatMap((setting) => ['--set', setting]));
  await user.json('repo', 'add', 'good', '--path', user.path('good'));
  const { backup_id: id } = await user.backup(disk, 'vm', '--repo', 'share');
  const hanging = mountHanging(share.path);
  if (typeof hanging === 'string') return context.skip(hanging);
  try {
    const [{ repositories }, backup] = await Promise.all([
      user.json<{ repositories: readonly RepositoryView[] }>('repo', 'list'),
      user.backup(disk, 'vm', '--repo', 'good'),
      user.refused('REPOSITORY_OFFLINE', 'backup', disk, '--vm', 'vm', '--repo', 'share'),
    ]);
    expect(repositories).toMatchObject([
      { name: 'good', health: 'healthy', problem: null },
      { name: 'share', health: 'offline', problem: expect.stringContaining('has not answered') },
    ]);
    await user.expectRestores(backup.backup_id, disk);
  } finally {
    hanging.dispose();
  }
  expect(await user.backup(disk, 'vm', '--repo', 'share')).toMatchObject({ backup_type: 'incremental', parent_backup_id: id });
  await user.verifyAll('share');
  expect(await user.json('repo', 'show', 'share')).toMatchObject({ health: 'healthy', problem: null });
});

it('disabled: no new backups, but restores', async () => {
  const user = scratchHome();
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(200_000, 1));
  const { backup_id: id } = await user.backup(disk, 'vm');
  await user.json('repo', 'update', 'default', '--disable');
  for (const repo of [[], ['--repo', 'default']]) {
    const refused = await user.refused('REPOSITORY_DISABLED', 'backup', disk, '--vm', 'vm', ...repo);
    expect(refused.advice).toContain('--enable');
  }
  await user.expectRestores(id, disk);
  await user.json('repo', 'add', 'other', '--path', user.path('other'));
  expect(await user.backup(disk, 'vm')).toMatchObject({ repository: 'other' });
  await user.json('repo', 'update', 'default', '--enable');
  expect(await user.backup(disk, 'vm')).toMatchObject({ backup_type: 'incremental', parent_backup_id: id });
});
