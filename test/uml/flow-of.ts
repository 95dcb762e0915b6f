// A user and a share of the guest: everything that is done with a repository, its server asleep and back, and another folder in its place.
// Each function stands in a `describe` of its own.
// Runs inside of user-mode-linux only (test/servers/uml.ts).

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { noise, type RunningCommand, ScratchHome } from '../flow/scratch-home.ts';
import { EXPORT, mountedAt, PASSWORD, type Share } from './share.ts';

const MIB = 1024 * 1024;
/** Seconds: the time limit of one call is 5 for these shares, opening takes 7.5 at most, and the guest is slow. */
const OFFLINE_WITHIN_S = 60;

/** The shortest way through: all that a user does with a share, by command line. */
export function essentialsOf(name: string, share: Share): void {
  const user = newUser(share);
  const disk = user.path('disk.img');

  it(`${name}: add, back up twice, verify, restore, delete; mounted while it is used and no longer`, async () => {
    writeFileSync(disk, noise(3 * MIB, 1));
    await user.json('repo', 'add', 'share', ...share.options);
    expect(readdirSync(EXPORT)).toEqual(['chainkeep-repository.json']);
    const full = await user.backup(disk, 'vm');
    writeFileSync(disk, Buffer.concat([noise(2 * MIB, 1), noise(MIB, 2)]));
    const incremental = await user.backup(disk, 'vm');
    expect(incremental).toMatchObject({ backup_type: 'incremental', parent_backup_id: full.backup_id });
    await user.verifyAll('share');
    await user.expectRestores(incremental.backup_id, disk);
    // Plain files on the server, which any tool reads.
    expect(readdirSync(EXPORT, { recursive: true }).filter((file) => String(file).endsWith('.qcow2')).length).toBe(2);
    await user.json('delete', incremental.backup_id);
    expect(readdirSync(EXPORT, { recursive: true }).filter((file) => String(file).endsWith('.qcow2')).length).toBe(1);
  });
}

/** The rest of what is done with a share, and its server asleep. */
export function flowOf(name: string, share: Share): void {
  const user = newUser(share);
  const disk = user.path('disk.img');

  it(`${name}: the self-test passes, what is shown is right, the last backup leaves nothing`, async () => {
    writeFileSync(disk, noise(3 * MIB, 1));
    await user.json('repo', 'add', 'share', ...share.options);
    const { steps } = await user.json<{ steps: readonly { name: string; ok: boolean }[] }>('repo', 'test', 'share');
    expect(steps.filter(({ ok }) => !ok)).toEqual([]);
    const { backup_id: id } = await user.backup(disk, 'vm');
    await user.expectRestores(id, disk);
    expect(await user.json('repo', 'list')).toMatchObject({ repositories: [{ name: 'share', health: 'healthy', problem: null }] });
    await user.json('delete', id);
    expect(readdirSync(EXPORT)).toEqual(['chainkeep-repository.json']);
  });

  it(`${name}: while the server does not answer the repository is offline, and nothing else is`, async () => {
    const { backup_id: id } = await user.backup(disk, 'vm');
    await user.json('repo', 'add', 'good', '--path', user.path('good'));
    share.sleep();
    try {
      const start = Date.now();
      const refused = await user.refused('REPOSITORY_OFFLINE', 'backup', disk, '--vm', 'vm', '--repo', 'share');
      expect((Date.now() - start) / 1000).toBeLessThan(OFFLINE_WITHIN_S);
      expect(refused.error).toContain('127.0.0.1');
      await user.backup(disk, 'other', '--repo', 'good');
    } finally {
      share.wake();
    }
    expect(await user.backup(disk, 'vm', '--repo', 'share')).toMatchObject({ parent_backup_id: id });
    await user.verifyAll('share');
  });
}

/** What takes longer. */
export function longFlowOf(name: string, share: Share): void {
  const user = newUser(share);
  const disk = user.path('disk.img');

  it(`${name}: is added`, async () => {
    writeFileSync(disk, noise(40 * MIB, 3));
    await user.json('repo', 'add', 'share', ...share.options);
  });

  it(`${name}: a server that stops answering in the middle ends the backup, and the next one is whole`, async () => {
    const running = user.start('backup', disk, '--vm', 'vm', '--compression', 'none', '--json');
    await stopInTheMiddle(running);
    share.sleep();
    running.kill('SIGCONT');
    try {
      const { code, stdout } = await running.ended;
      expect(code).toBe(1);
      expect(JSON.parse(stdout)).toMatchObject({ success: false, error_code: 'REPOSITORY_OFFLINE' });
    } finally {
      share.wake();
    }
    const whole = await user.backup(disk, 'vm', '--compression', 'none');
    expect(whole).toMatchObject({ backup_type: 'full' });
    await user.verifyAll('share');
    await user.expectRestores(whole.backup_id, disk);
  });

  it(`${name}: two commands at once use one mount, and the last one unmounts it`, async () => {
    const runs = [user.start('verify', '--repo', 'share', '--json'), user.start('backup', disk, '--vm', 'two', '--json')];
    const mounts = await sampleMounts(share, runs);
    for (const { code, stderr } of await Promise.all(runs.map((run) => run.ended))) expect(code, stderr).toBe(0);
    expect(Math.max(...mounts)).toBe(1);
    expect(mountedAt(share.source)).toEqual([]);
  });

  it(`${name}: a killed command leaves its mount to the next one`, async () => {
    const running = user.start('backup', disk, '--vm', 'killed', '--compression', 'none', '--json');
    await stopInTheMiddle(running);
    running.kill('SIGKILL');
    await running.ended;
    await user.verifyAll('share');
    expect(mountedAt(share.source)).toEqual([]);
  });

  it(`${name}: a plain folder in the place of the export is offline, and nothing is written there`, async () => {
    const before = readdirSync(EXPORT, { recursive: true }).toSorted();
    renameSync(EXPORT, `${EXPORT}-kept`);
    mkdirSync(EXPORT);
    try {
      await user.refused('REPOSITORY_OFFLINE', 'backup', disk, '--vm', 'vm', '--repo', 'share');
      expect(readdirSync(EXPORT)).toEqual([]);
    } finally {
      rmSync(EXPORT, { recursive: true });
      renameSync(`${EXPORT}-kept`, EXPORT);
    }
    await user.verifyAll('share');
    expect(readdirSync(EXPORT, { recursive: true }).toSorted()).toEqual(before);
  });

  it(`${name}: what the system has mounted is used and left alone; its mount point without it is offline`, async () => {
    const point = user.path('point');
    mkdirSync(point);
    const options = share.type === 'nfs' ? `vers=${share.config.nfs_version},nolock` : `username=root,vers=3.1.1`;
    const mount = (): Buffer =>
      execFileSync('mount', ['-t', share.type, '-o', options, share.source, point], {
        env: { ...process.env, ...(share.type === 'cifs' && { PASSWD: PASSWORD }) },
        timeout: 20_000,
      });
    mount();
    await user.json('repo', 'update', 'share', '--set', `mount_point=${point}`);
    await user.verifyAll('share');
    expect(mountedAt(share.source)).toEqual([point]);
    execFileSync('umount', [point]);
    // Now it mounts it itself, there, and unmounts it.
    await user.verifyAll('share');
    expect(mountedAt(share.source)).toEqual([]);
    await user.refused('REPOSITORY_OFFLINE', 'repo', 'update', 'share', '--set', `system_mount=${share.type} ${share.source}`);
    writeFileSync(join(point, 'mine'), 'x');
    await user.refused('REPOSITORY_OFFLINE', 'repo', 'update', 'share', '--set', `system_mount=${share.type} ${share.source}`);
    expect(readdirSync(point)).toEqual(['mine']);
    rmSync(join(point, 'mine'));
  });

  it(`${name}: a mount that goes away in the middle takes nothing to the disk below`, async () => {
    const running = user.start('backup', disk, '--vm', 'lazy', '--compression', 'none', '--json');
    await stopInTheMiddle(running);
    const [point = ''] = mountedAt(share.source);
    execFileSync('umount', ['--lazy', point]);
    running.kill('SIGCONT');
    expect(JSON.parse((await running.ended).stdout)).toMatchObject({ error_code: 'REPOSITORY_OFFLINE' });
    expect(existsSync(point) ? readdirSync(point) : []).toEqual([]);
    await user.verifyAll('share');
  });
}

/** Of the tests that follow; nothing may be mounted between two of them, and the share is empty behind the last. */
function newUser(share: Share): ScratchHome {
  const folder = mkdtempSync(join(tmpdir(), 'user-'));
  beforeAll(() => {
    process.env.SHARE_PASSWORD = PASSWORD;
  });
  afterEach(() => expect(mountedAt(share.source), 'what is mounted after a command').toEqual([]));
  afterAll(() => {
    for (const entry of readdirSync(EXPORT)) rmSync(join(EXPORT, entry), { recursive: true });
    rmSync(folder, { recursive: true, force: true });
  });
  return new ScratchHome(folder);
}

/** Holds the command, not its share, at the moment when it has begun to write an image. */
async function stopInTheMiddle(running: RunningCommand): Promise<void> {
  for (const end = Date.now() + 120_000; ; await new Promise((resolve) => setTimeout(resolve, 5))) {
    const found = readdirSync(EXPORT, { recursive: true }).map(String);
    if (found.some((file) => /\.qcow2\.tmp-/.test(file))) return running.kill('SIGSTOP');
    if (Date.now() > end) throw new Error('no image appeared on the server');
  }
}

/** How often the share is mounted, again and again while the commands run. */
async function sampleMounts(share: Share, runs: readonly RunningCommand[]): Promise<readonly number[]> {
  let running = true;
  void Promise.all(runs.map((run) => run.ended)).then(() => {
    running = false;
  });
  const counts: number[] = [];
  while (running) {
    counts.push(mountedAt(share.source).length);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return counts;
}
