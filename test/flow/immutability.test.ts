// Locks and holds through the launcher, on a real ext4 with its attribute, against somebody who may use every command; and where there is no attribute.

import { globSync, lstatSync, mkdirSync, rmSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { BackupDetails, BackupOutcome, ListedHold, ProtectOutcome, RepositoryView, RescanOutcome } from '../../src/app-interface.ts';
import { mountExt4, mountTmpfs, type TemporaryMount } from '../store/temporary-mount.ts';
import { qemuIo, type ScratchHome, scratchHome, tool } from './scratch-home.ts';

const DAY_MS = 24 * 3600_000;
/** Root without the right to set the attribute. */
const WITHOUT_RIGHT = ['setpriv', '--bounding-set', '-linux_immutable', '--inh-caps', '-linux_immutable'];
const WEEK = ['--set', 'immutable_config.type=linux_chattr', '--set', 'immutable_config.min_retention_days=7'];

let mount: TemporaryMount | string = 'not tried';
let home: ScratchHome;
let place: string;
let disk: string;

beforeAll(() => {
  mkdirSync('/tmp', { recursive: true });
  mount = mountExt4(`/dev/shm/chainkeep-ext4-${process.pid}`, 256 * 2 ** 20);
});
afterAll(() => {
  if (typeof mount !== 'string') mount.dispose();
  rmSync(`/dev/shm/chainkeep-ext4-${process.pid}`, { force: true });
});

beforeEach(({ skip, task }) => {
  if (typeof mount === 'string') return skip(mount);
  home = scratchHome();
  place = join(mount.path, task.id);
  disk = home.path('disk.raw');
  tool('truncate', '-s', '8M', disk);
  qemuIo(disk, 'raw', 'write -P 1 0 2M');
});

interface Kept {
  readonly outcome: BackupOutcome;
  readonly copy: string;
}

async function keep(name: string, ...options: readonly string[]): Promise<Kept> {
  const outcome = await home.backup(disk, 'web', '--repo', 'safe', ...options);
  return { outcome, copy: home.save(disk, `${name}.copy`) };
}

async function chainOfThree(): Promise<readonly Kept[]> {
  const kept = [await keep('one')];
  for (const [name, pattern] of [
    ['two', 2],
    ['three', 3],
  ] as const) {
    qemuIo(disk, 'raw', `write -P ${pattern} ${pattern}M 1M`);
    kept.push(await keep(name));
  }
  return kept;
}

const filesOf = (id = ''): readonly string[] => globSync(`${place}/vms/*/disk-0/${id}*`);
const isImmutable = (path: string): boolean => /^\S*i\S* /.test(tool('lsattr', path));
const show = (id: string): Promise<BackupDetails> => home.json('show', id);

describe('an immutable repository with the attribute', () => {
  it('locks backups from their commit on, ancestors at least as long, and tells until when', async () => {
    const added = await home.json<RepositoryView>('repo', 'add', 'safe', '--path', place, ...WEEK);
    expect(added).toMatchObject({
      is_immutable: true,
      immutable_config: { min_retention_days: 7, full_after_days: 7, full_after_backups: 30 },
    });
    const before = Date.now();
    const kept = await chainOfThree();
    expect(kept.map(({ outcome }) => outcome.backup_type)).toEqual(['full', 'incremental', 'incremental']);
    const dates = await Promise.all(kept.map(async ({ outcome }) => Date.parse((await show(outcome.backup_id)).protected_until ?? '')));
    const [full = 0, middle = 0, newest = 0] = dates;
    expect(newest).toBeGreaterThanOrEqual(before + 7 * DAY_MS);
    expect(newest).toBeLessThanOrEqual(Date.now() + 7 * DAY_MS);
    expect(middle).toBeGreaterThanOrEqual(newest);
    expect(full).toBeGreaterThanOrEqual(middle);
    for (const { outcome } of kept) {
      const files = filesOf(outcome.backup_id);
      expect(files.length).toBeGreaterThanOrEqual(4);
      expect(files.filter((path) => !isImmutable(path))).toEqual([]);
      for (const path of files) expect(() => unlinkSync(path)).toThrow('EPERM');
    }
    const last = kept[2]?.outcome.backup_id ?? '';
    const refused = await home.refused('IMMUTABLE_RETENTION_ACTIVE', 'delete', last);
    expect(refused).toMatchObject({ backup_id: last, retention_expires_at: new Date(newest).toISOString() });
    expect(refused.error).toContain(new Date(newest).toISOString());
    await home.refused('IMMUTABLE_RETENTION_ACTIVE', 'delete', last, '--dry-run');
    const swept = await home.json<ProtectOutcome>('repo', 'protect', 'safe');
    expect(swept).toMatchObject({ retention: 'advisory', retention_mark: 'attribute', disks: 1, restored: [], failures: [] });
    await home.verifyAll('safe');
    expect(await home.json<RescanOutcome>('repo', 'rescan', 'safe')).toMatchObject({ found: 3, changed: 0, damaged: 0, missing: 0 });
  });

  it('keeps every restore point against somebody who may use every command', async () => {
    await home.json('repo', 'add', 'safe', '--path', place, ...WEEK);
    const kept = await chainOfThree();
    const attack = async (): Promise<void> => {
      for (const { outcome } of kept) await home.refused('IMMUTABLE_RETENTION_ACTIVE', 'delete', outcome.backup_id);
      await home.refused('IMMUTABLE_RETENTION_ACTIVE', 'repo', 'update', 'safe', '--set', 'immutable_config.min_retention_days=1');
      await home.refused('IMMUTABLE_RETENTION_ACTIVE', 'repo', 'update', 'safe', '--unset', 'immutable_config');
      await home.refused('IMMUTABLE_RETENTION_ACTIVE', 'repo', 'update', 'safe', '--set', 'immutable_config.apply_to_incrementals=false');
      await home.refused('IMMUTABLE_RETENTION_ACTIVE', 'repo', 'update', 'safe', '--set', 'immutable_config.grace_period_days=100');
      await home.refused('IMMUTABLE_RETENTION_ACTIVE', 'repo', 'remove', 'safe', '--forget');
      await home.refused('REPOSITORY_IN_USE', 'repo', 'remove', 'safe');
    };
    await attack();
    rmSync(home.path('home'), { recursive: true });
    await home.refused('REPOSITORY_FOREIGN', 'repo', 'add', 'safe', '--path', place);
    const weaker = ['--set', 'immutable_config.type=linux_chattr', '--set', 'immutable_config.min_retention_days=1'];
    const again = await home.json<RepositoryView>('repo', 'add', 'safe', '--path', place, '--take-over', ...weaker);
    expect(again.immutable_config).toMatchObject({ min_retention_days: 7 });
    await home.refused('IMMUTABLE_RETENTION_ACTIVE', 'repo', 'update', 'safe', '--unset', 'immutable_config');
    await home.json('repo', 'rescan', 'safe');
    await attack();
    for (const { outcome, copy } of kept) await home.expectRestores(outcome.backup_id, copy);
  });

  it('a protection that root took off is put back, and is an alarm', async () => {
    await home.json('repo', 'add', 'safe', '--path', place, ...WEEK);
    const { outcome } = await keep('one');
    await home.json('repo', 'protect', 'safe');
    const [image = ''] = filesOf(`${outcome.backup_id}.qcow2`);
    tool('chattr', '-i', image);
    const run = await home.run('repo', 'protect', 'safe', '--json');
    expect(run.code).toBe(1);
    const answer: ProtectOutcome = JSON.parse(run.stdout);
    expect(answer.restored.map((name) => join(place, name))).toEqual([image]);
    expect(isImmutable(image)).toBe(true);
    const alarms = (await home.jobLog(answer.job_id)).filter(({ level }) => level === 'error');
    expect(alarms.map(({ message }) => message)).toEqual([expect.stringContaining('ALARM')]);
    expect(await home.json<ProtectOutcome>('repo', 'protect', 'safe')).toMatchObject({ restored: [], protected: 0 });
  });

  it('grace delays the attribute and not our refusal; settings can be raised at any time', async () => {
    await home.json('repo', 'add', 'safe', '--path', place, ...WEEK, '--set', 'immutable_config.grace_period_days=2');
    const { outcome } = await keep('one');
    expect(filesOf(outcome.backup_id).filter(isImmutable)).toEqual([]);
    await home.refused('IMMUTABLE_RETENTION_ACTIVE', 'delete', outcome.backup_id);
    await home.json(
      'repo',
      'update',
      'safe',
      '--set',
      'immutable_config.grace_period_days=0',
      '--set',
      'immutable_config.min_retention_days=30',
    );
    await home.json('repo', 'protect', 'safe');
    expect(filesOf(outcome.backup_id).filter((path) => !isImmutable(path))).toEqual([]);
    expect(Date.parse((await show(outcome.backup_id)).protected_until ?? '')).toBeGreaterThan(Date.now() + 29 * DAY_MS);
  });
});

describe('a delete and a backup that needs what it takes, at once', () => {
  it('one of them wins, and no locked backup loses its parent', async () => {
    await home.json('repo', 'add', 'safe', '--path', place, ...WEEK, '--set', 'immutable_config.apply_to_full_backups=false');
    for (let round = 0; round < 3; round += 1) {
      const full = await home.backup(disk, 'web', '--repo', 'safe', '--type', 'full');
      expect((await show(full.backup_id)).protected_until).toBeNull();
      qemuIo(disk, 'raw', `write -P ${round + 5} 4M 1M`);
      const [deleted, made] = await Promise.all([
        home.run('delete', full.backup_id, '--json'),
        home.run('backup', disk, '--vm', 'web', '--repo', 'safe', '--json'),
      ]);
      const refusal = deleted.code === 0 ? undefined : JSON.parse(deleted.stdout).error_code;
      if (refusal !== undefined) expect(['IMMUTABLE_RETENTION_ACTIVE', 'BACKUP_HAS_DEPENDENTS', 'BACKUP_IN_PROGRESS']).toContain(refusal);
      if (made.code !== 0) expect(JSON.parse(made.stdout).error_code).toBe('BACKUP_IN_PROGRESS');
      const child: BackupOutcome | undefined = made.code === 0 ? JSON.parse(made.stdout) : undefined;
      const parent = child?.parent_backup_id ?? null;
      if (child && parent !== null) {
        const [above, below] = [(await show(child.backup_id)).protected_until ?? '', (await show(parent)).protected_until ?? ''];
        expect(above).not.toBe('');
        expect(below >= above).toBe(true);
        await home.refused('IMMUTABLE_RETENTION_ACTIVE', 'delete', parent);
      }
      await home.verifyAll('safe');
    }
  });
});

describe('a clock that jumped', () => {
  it('ends no date and moves no date, forwards and backwards, also with a database that is new', async () => {
    await home.json('repo', 'add', 'safe', '--path', place, ...WEEK);
    const { outcome, copy } = await keep('one');
    const id = outcome.backup_id;
    const until = (await show(id)).protected_until;
    for (const days of ['+400d', '-400d']) {
      const shim = ['faketime', '-f', days];
      const refused = await home.refusedAs(shim, 'CLOCK_JUMPED', 'delete', id);
      expect(refused.retention_expires_at).toBe(until);
      await home.refusedAs(shim, 'CLOCK_JUMPED', 'repo', 'update', 'safe', '--unset', 'immutable_config');
      await home.refusedAs(shim, 'CLOCK_JUMPED', 'repo', 'remove', 'safe', '--forget');
      await home.refusedAs(shim, 'CLOCK_JUMPED', 'clock', 'confirm');
      await home.runAs(shim, 'repo', 'protect', 'safe');
      expect(filesOf(id).filter((path) => !isImmutable(path))).toEqual([]);
      expect((await show(id)).protected_until).toBe(until);
    }
    const before = Date.now();
    const run = await home.runAs(['faketime', '-f', '-400d'], 'backup', disk, '--vm', 'other', '--repo', 'safe', '--json');
    const late: BackupOutcome = JSON.parse(run.stdout);
    expect(Date.parse((await show(late.backup_id)).protected_until ?? '')).toBeGreaterThanOrEqual(before + 7 * DAY_MS - 1000);
    await home.refused('IMMUTABLE_RETENTION_ACTIVE', 'delete', late.backup_id);
    expect(await home.json('clock', 'show')).toMatchObject({ trusted: true, jump_ms: 0 });

    rmSync(home.path('home'), { recursive: true });
    const shim = ['faketime', '-f', '+400d'];
    await home.runAs(shim, 'repo', 'add', 'safe', '--path', place, '--take-over');
    await home.runAs(shim, 'repo', 'rescan', 'safe');
    await home.refusedAs(shim, 'CLOCK_JUMPED', 'delete', id);
    await home.expectRestores(id, copy);
  });
});

describe('holds', () => {
  it('hold a backup and what it needs until they are lifted, also without locks', async () => {
    await home.json('repo', 'add', 'safe', '--path', place);
    const [one, two] = [await keep('one'), await keep('two')];
    const id = two.outcome.backup_id;
    const hold = await home.json<ListedHold>('hold', 'add', id, '--reason', 'court order 17, ask Ms Ünal');
    expect(hold.by).toMatch(/^root@./);
    expect(filesOf(one.outcome.backup_id).filter((path) => !isImmutable(path))).toEqual([]);
    expect(filesOf(id).filter((path) => !isImmutable(path))).toEqual([]);
    const refused = await home.refused('HOLD_ACTIVE', 'delete', id);
    expect(refused).toMatchObject({ hold_id: hold.hold_id, reason: 'court order 17, ask Ms Ünal', held_by: hold.by });
    await home.refused('HOLD_ACTIVE', 'repo', 'remove', 'safe', '--forget');
    const second = await home.json<ListedHold>('hold', 'add', id, '--reason', 'audit');
    expect((await home.json<{ holds: ListedHold[] }>('hold', 'list')).holds.map(({ hold_id }) => hold_id)).toEqual([
      second.hold_id,
      hold.hold_id,
    ]);
    await home.json('hold', 'lift', hold.hold_id);
    await home.refused('HOLD_NOT_FOUND', 'hold', 'lift', hold.hold_id);
    await home.refused('HOLD_ACTIVE', 'delete', id);
    expect((await home.json<{ holds: ListedHold[] }>('hold', 'list', '--all')).holds.length).toBe(2);
    expect(await home.json<RescanOutcome>('repo', 'rescan', 'safe')).toMatchObject({ found: 2, changed: 0, damaged: 0 });
    await home.json('hold', 'lift', second.hold_id);
    expect(filesOf().filter(isImmutable)).toEqual([]);
    await home.json('delete', id);
    await home.json('delete', one.outcome.backup_id);
    expect(filesOf()).toEqual([]);
  });

  it('need a reason, and a backup that is there', async () => {
    await home.json('repo', 'add', 'safe', '--path', place);
    const { outcome } = await keep('one');
    await home.refused('CONFIG_INVALID', 'hold', 'add', outcome.backup_id, '--reason', ' ');
    await home.refused('USAGE', 'hold', 'add', outcome.backup_id);
    await home.refused('BACKUP_NOT_FOUND', 'hold', 'add', '2020', '--reason', 'x');
    await home.refused('HOLD_NOT_FOUND', 'hold', 'lift', '2020');
    expect((await home.run('hold', 'list')).stdout).toBe('no backup is held\n');
  });
});

describe('where the attribute cannot be set', () => {
  it('mode bits and our refusal keep backups, and it says so', async () => {
    await home.json('repo', 'add', 'safe', '--path', place, ...WEEK);
    const run = await home.runAs(WITHOUT_RIGHT, 'backup', disk, '--vm', 'web', '--repo', 'safe', '--json');
    const { backup_id: id }: BackupOutcome = JSON.parse(run.stdout);
    expect(filesOf(id).filter(isImmutable)).toEqual([]);
    for (const path of filesOf(id)) expect(lstatSync(path).mode & 0o777).toBe(0o400);
    await home.refusedAs(WITHOUT_RIGHT, 'IMMUTABLE_RETENTION_ACTIVE', 'delete', id);
    const swept = await home.runAs(WITHOUT_RIGHT, 'repo', 'protect', 'safe');
    expect(swept.stdout).toContain('by us, and by mode bits');
    // Root has the right again: the attribute follows.
    await home.json('repo', 'update', 'safe', '--set', 'immutable_config.min_retention_days=8');
    await home.run('repo', 'protect', 'safe', '--json');
    expect(filesOf(id).filter((path) => !isImmutable(path))).toEqual([]);
  });
});

describe('on a share', () => {
  it('mode bits and our refusal keep backups, through the process that uses the share', async ({ skip }) => {
    // What the system has mounted there is no matter to the rest of the program.
    const share = mountTmpfs('size=32m');
    if (typeof share === 'string') return skip(share);
    onTestFinished(share.dispose);
    const settings = ['server=nas', 'export_path=/backups', `mount_point=${share.path}`, 'system_mount=tmpfs chainkeep-test'];
    await home.json('repo', 'add', 'safe', '--type', 'nfs', ...settings.flatMap((setting) => ['--set', setting]), ...WEEK);
    const { outcome, copy } = await keep('one');
    const files = globSync(`${share.path}/vms/*/disk-0/${outcome.backup_id}*`);
    expect(files.length).toBe(4);
    for (const path of files) expect(lstatSync(path).mode & 0o777, path).toBe(0o400);
    expect(await home.json<ProtectOutcome>('repo', 'protect', 'safe')).toMatchObject({ retention: 'advisory', retention_mark: 'mode' });
    await home.refused('IMMUTABLE_RETENTION_ACTIVE', 'delete', outcome.backup_id);
    await home.refused('IMMUTABLE_RETENTION_ACTIVE', 'repo', 'remove', 'safe', '--forget');
    await home.expectRestores(outcome.backup_id, copy);
    await home.verifyAll('safe');
  });
});
