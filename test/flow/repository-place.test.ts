// Where backups rest: folders that are no place for them, disks that are gone or full, two installations, and a lost database.

import { chmodSync, cpSync, globSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { RepositoryView } from '../../src/app-interface.ts';
import { mountTmpfs } from '../store/temporary-mount.ts';
import { noise, qemuImg, scratchHome, sharedScratchHome } from './scratch-home.ts';

const MIB = 1 << 20;
const isRoot = process.getuid?.() === 0;
const NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];

describe('a folder that is no place for a repository', () => {
  const user = sharedScratchHome();

  it('is refused, and stays as it is', async () => {
    mkdirSync(user.path('photos'));
    writeFileSync(user.path('photos/holiday.jpg'), 'x');
    writeFileSync(user.path('file'), 'x');
    mkdirSync(user.path('damaged'));
    writeFileSync(user.path('damaged/chainkeep-repository.json'), '{"format": 1}');
    mkdirSync(user.path('home'));
    const before = user.files();
    expect((await user.refused('REPOSITORY_NOT_EMPTY', 'repo', 'add', 'x', '--path', user.path('photos'))).error).toContain('holiday.jpg');
    await user.refused('REPOSITORY_INVALID', 'repo', 'add', 'x', '--path', user.path('damaged'));
    await user.refused('REPOSITORY_OFFLINE', 'repo', 'add', 'x', '--path', user.path('file'));
    await user.refused('STORE_FAILED', 'repo', 'add', 'x', '--path', '/proc/chainkeep-test');
    await user.refused('USAGE', 'repo', 'add', 'x', '--path', '');
    const none = await user.refused('CONFIG_INVALID', 'repo', 'add', 'x');
    expect(none.error).toContain('folder');
    expect(none.advice).toContain('--help');
    await user.refused('CONFIG_INVALID', 'repo', 'add', '', '--path', user.path('new'));
    await user.refused('CONFIG_INVALID', 'repo', 'add', 'x', '--path', user.path('new'), '--set', 'color=red');
    // Only the system mounts it, and has not: this is a plain folder.
    const system = `mount_point=${user.path('photos')}`;
    const nfs = ['--type', 'nfs', ...['server=nas', 'export_path=/b', system, 'system_mount=nfs4 nas:/b'].flatMap((one) => ['--set', one])];
    await user.refused('REPOSITORY_OFFLINE', 'repo', 'add', 'x', ...nfs);
    const tested = await user.run('repo', 'test', ...nfs, '--json');
    expect(tested.code).toBe(1);
    const steps = [expect.objectContaining({ name: 'reach', ok: false, advice: expect.any(String) })];
    expect(JSON.parse(tested.stdout)).toMatchObject({ success: false, steps: expect.arrayContaining(steps) });
    await user.refused('CONFIG_INVALID', 'repo', 'test', '--path', 'x', '--set', 'color=red');
    await user.json('repo', 'test', '--path', user.path('a/new/place'));
    expect(user.files()).toEqual(before);
    expect(await user.json('repo', 'list')).toEqual({ repositories: [] });
    const jobs = await user.jobs('--status', 'failed');
    expect(jobs.map((job) => job.job_type)).toContain('repository');
  });

  it('is taken by another repository: same name, same folder, inside, around, behind a link', async () => {
    await user.json('repo', 'add', 'main', '--path', user.path('place/main'));
    symlinkSync('place/main', user.path('link'));
    const before = user.files();
    for (const [name, place] of [
      ['main', 'other'],
      ['again', 'place/main'],
      ['again', 'link'],
      ['again', 'place/main/vms'],
      ['again', 'link/deeper/still'],
      ['again', 'place'],
    ] as const) {
      const refused = await user.refused('REPOSITORY_EXISTS', 'repo', 'add', name, '--path', user.path(place));
      expect(refused.error).toContain('main');
    }
    expect(user.files()).toEqual(before);
  });

  it.runIf(isRoot)('cannot be written by this user', async () => {
    const nobody = scratchHome();
    chmodSync(nobody.folder, 0o777);
    mkdirSync(nobody.path('theirs'), { mode: 0o755 });
    const before = nobody.files();
    for (const place of ['theirs', 'theirs/deeper']) {
      const refused = await nobody.refusedAs(NOBODY, 'REPOSITORY_READ_ONLY', 'repo', 'add', 'x', '--path', nobody.path(place));
      expect(refused.error).toContain(nobody.path('theirs'));
      expect(refused.error).toMatch(/EACCES|permission denied/);
    }
    expect(nobody.files()).toEqual([...before, 'home/'].sort());
    rmSync(nobody.path('home'), { recursive: true });
  });

  it('chooses none by itself where there are several', async () => {
    await user.json('repo', 'add', 'second', '--path', user.path('second'));
    writeFileSync(user.path('disk.img'), 'x');
    const refused = await user.refused('CONFIG_INVALID', 'backup', user.path('disk.img'), '--vm', 'x');
    expect(refused.advice).toMatch(/main.*second/);
    await user.backup(user.path('disk.img'), 'x', '--repo', 'second');
    const used = await user.refused('REPOSITORY_IN_USE', 'repo', 'remove', 'second');
    expect(used).toMatchObject({ backup_count: 1 });
    await user.json('repo', 'remove', 'main');
    expect(readdirSync(user.path('place/main'))).toEqual(['chainkeep-repository.json']);
    await user.json('repo', 'remove', 'second', '--forget');
    expect(await user.list()).toEqual([]);
    await user.json('repo', 'add', 'back', '--path', user.path('place/main'));
  });
});

describe('a disk that is gone', () => {
  it('makes every command say so, writes nothing in its place, and works again when it is back', async (context) => {
    const user = scratchHome();
    const disk = user.path('disk.img');
    const copies = mountTmpfs('size=16M');
    if (typeof copies === 'string') return context.skip(copies);
    writeFileSync(disk, noise(MIB, 1));
    await user.json('repo', 'add', 'usb', '--path', `${copies.path}/`);
    const first = await user.backup(disk, 'vm');
    cpSync(copies.path, user.path('kept'), { recursive: true });
    copies.unmount(); // leaves an empty folder: what an unmounted disk looks like
    const id = first.backup_id;
    const commands = [
      ['backup', disk, '--vm', 'vm'],
      ['restore', id, user.path('out.img')],
      ['verify', '--repo', 'usb'],
      ['verify', id, '--quick'],
      ['delete', id],
      ['repo', 'test', 'usb'],
    ];
    for (const command of commands) {
      const refused = await user.refused('REPOSITORY_OFFLINE', ...command);
      expect(refused.advice).toContain('mounted');
    }
    expect(readdirSync(copies.path)).toEqual([]);
    expect(user.files()).not.toContainEqual(expect.stringContaining('out.img'));
    expect(await user.json<RepositoryView>('repo', 'show', 'usb')).toMatchObject({ health: 'offline', backup_count: 1 });
    // What the catalog knows can be seen all the same.
    expect(await user.list()).toMatchObject([{ backup_id: id, status: 'completed' }]);
    await user.json('chain', '--vm', 'vm');
    await user.json('jobs');

    cpSync(user.path('kept'), copies.path, { recursive: true });
    expect(await user.backup(disk, 'vm')).toMatchObject({ backup_type: 'incremental', parent_backup_id: id });
    expect(await user.json<RepositoryView>('repo', 'show', 'usb')).toMatchObject({ health: 'healthy' });
    await user.verifyAll('usb');
    rmSync(join(copies.path), { recursive: true, force: true });
    await user.refused('REPOSITORY_OFFLINE', 'backup', disk, '--vm', 'vm');
    mkdirSync(copies.path);
    copies.dispose();
  });

  it('whose marker is missing, damaged or of another repository is not written to', async () => {
    const user = scratchHome();
    const disk = user.path('disk.img');
    writeFileSync(disk, noise(10_000, 1));
    await user.backup(disk, 'vm');
    const marker = user.path('home/repositories/default/chainkeep-repository.json');
    const good = readFileSync(marker);
    await user.json('repo', 'add', 'other', '--path', user.path('other'));
    for (const [content, code] of [
      [readFileSync(user.path('other/chainkeep-repository.json')), 'REPOSITORY_INVALID'],
      [good.subarray(0, 50), 'REPOSITORY_INVALID'],
      [Buffer.from(String(good).replace('"owner": "2', '"owner": "3')), 'REPOSITORY_INVALID'],
      [Buffer.alloc(0), 'REPOSITORY_INVALID'],
      [undefined, 'REPOSITORY_OFFLINE'],
    ] as const) {
      if (content) writeFileSync(marker, content);
      else rmSync(marker);
      const before = user.files('home/repositories');
      await user.refused(code, 'backup', disk, '--vm', 'vm', '--repo', 'default');
      await user.refused(code, 'restore', 'latest', user.path('out.img'), '--vm', 'vm');
      expect(user.files('home/repositories')).toEqual(before);
    }
    writeFileSync(marker, good);
    await user.backup(disk, 'vm', '--repo', 'default');
  });
});

describe('a disk that is full', () => {
  it('ends a backup with both numbers, gives the room back, and takes backups again when there is room', async (context) => {
    const user = scratchHome();
    const disk = user.path('disk.img');
    const small = mountTmpfs('size=12M');
    if (typeof small === 'string') return context.skip(small);
    try {
      writeFileSync(disk, noise(MIB, 1));
      await user.json('repo', 'add', 'small', '--path', `${small.path}/repo`);
      const first = await user.backup(disk, 'vm');
      const copy = user.save(disk, 'copy');
      // Far more than any backup of it was: the first run is let in and finds no room, a full is refused before it begins.
      writeFileSync(disk, noise(20 * MIB, 2));
      const files = (): readonly unknown[] => globSync('**', { cwd: small.path }).sort();
      const before = files();
      for (const options of [[], ['--type', 'full', '--compression', 'none', '--cluster-size', '2M']]) {
        const refused = await user.refused('INSUFFICIENT_STORAGE', 'backup', disk, '--vm', 'vm', ...options);
        expect(Number(refused.required_bytes)).toBeGreaterThan(0);
        expect(Number(refused.available_bytes)).toBeLessThan(Number(refused.required_bytes));
        expect(refused.error).toContain(String(refused.required_bytes));
        expect(refused.error).toContain(String(refused.available_bytes));
        expect(files()).toEqual(before);
      }
      const [failed] = await user.list('--status', 'failed');
      const details = await user.json<{ error_message: string }>('show', String(failed?.backup_id));
      expect(details.error_message).toContain('no room');
      const [job] = await user.jobs('--status', 'failed');
      const { steps } = await user.showJob(String(job?.job_id));
      expect(steps.at(-1)).toMatchObject({ status: 'failed', error_message: expect.stringContaining('no room') });
      expect((await user.jobLog(String(job?.job_id))).some((event) => event.level === 'error')).toBe(true);
      await user.expectRestores(first.backup_id, copy);

      small.remount('size=64M');
      const second = await user.backup(disk, 'vm');
      expect(second).toMatchObject({ backup_type: 'incremental', parent_backup_id: first.backup_id });
      await user.expectRestores(second.backup_id, disk);
      await user.verifyAll('small');
      // Failed runs can be cleared away.
      for (const { backup_id: id } of await user.list('--status', 'failed')) await user.json('delete', id);
      expect(await user.list('--status', 'failed')).toEqual([]);
    } finally {
      small.dispose();
    }
  });

  it('under the database: nothing is lost, and the next command finds it in order', async (context) => {
    const user = scratchHome();
    const small = mountTmpfs('size=1M');
    if (typeof small === 'string') return context.skip(small);
    try {
      const cramped = user.otherHome(`../${small.path.split('/').at(-1)}`);
      writeFileSync(user.path('disk.img'), noise(100_000, 1));
      await cramped.json('repo', 'add', 'main', '--path', user.path('repo'));
      await cramped.backup(user.path('disk.img'), 'vm');
      writeFileSync(`${small.path}/ballast`, Buffer.alloc(MIB, 1), { flag: 'a' });
    } catch (error) {
      if (!(error instanceof Error && error.message.includes('ENOSPC'))) throw error;
    }
    try {
      const cramped = user.otherHome(`../${small.path.split('/').at(-1)}`);
      const run = await cramped.run('backup', user.path('disk.img'), '--vm', 'vm', '--json');
      if (run.code !== 0) {
        expect(JSON.parse(run.stdout)).toMatchObject({ success: false, error_code: 'CATALOG_FAILED' });
        expect(run.stderr).toMatch(/^advice: .*full/m);
      }
      rmSync(`${small.path}/ballast`);
      const next = await cramped.backup(user.path('disk.img'), 'vm');
      await cramped.verifyAll('main');
      expect((await cramped.list('--status', 'running')).length).toBe(0);
      expect((await cramped.jobs('--status', 'running')).length).toBe(0);
      await cramped.expectRestores(next.backup_id, user.path('disk.img'));
    } finally {
      small.dispose();
    }
  });
});

describe('two installations and one folder', () => {
  it('one owns it; the other reads, takes it over, and gives it back', async () => {
    const ours = scratchHome();
    const theirs = ours.otherHome('their-home');
    const disk = ours.path('disk.img');
    const shared = ours.path('shared');
    writeFileSync(disk, noise(200_000, 1));
    await ours.json('repo', 'add', 'shared', '--path', shared);
    const first = await ours.backup(disk, 'vm');
    const before = ours.files('shared');
    const refused = await theirs.refused('REPOSITORY_FOREIGN', 'repo', 'add', 'shared', '--path', shared);
    expect(refused.advice).toContain('--take-over');
    expect(ours.files('shared')).toEqual(before);

    await theirs.json('repo', 'add', 'shared', '--path', shared, '--take-over');
    // Now it is theirs. We can still read what is ours, and write nothing.
    expect(await ours.json<RepositoryView>('repo', 'show', 'shared')).toMatchObject({ read_only: true, health: 'healthy' });
    await ours.expectRestores(first.backup_id, disk);
    await ours.verifyAll('shared');
    for (const command of [
      ['backup', disk, '--vm', 'vm'],
      ['backup', disk, '--vm', 'new'],
      ['delete', first.backup_id],
      ['repo', 'test', 'shared'],
    ]) {
      await ours.refused('REPOSITORY_FOREIGN', ...command);
    }
    expect(ours.files('shared')).toEqual(before);
    expect(await ours.json('vms')).toMatchObject({ vms: [{ vm_name: 'vm' }] });

    await theirs.backup(disk, 'their vm');
    await ours.json('repo', 'add', 'shared', '--path', shared, '--take-over');
    expect(await ours.backup(disk, 'vm')).toMatchObject({ backup_type: 'incremental', parent_backup_id: first.backup_id });
    await theirs.refused('REPOSITORY_FOREIGN', 'backup', disk, '--vm', 'their vm');
    await ours.verifyAll('shared');
  });
});

describe('a lost database', () => {
  it('loses no backup: the folder is taken over, and restores without Chainkeep', async () => {
    const user = scratchHome();
    const disk = user.path('disk.img');
    writeFileSync(disk, noise(300_000, 1));
    await user.backup(disk, 'vm');
    writeFileSync(disk, noise(400_000, 2));
    const newest = await user.backup(disk, 'vm');
    const copy = user.save(disk, 'copy');
    const image = user.image(newest.backup_id);
    for (const file of globSync('home/catalog.sqlite*', { cwd: user.folder })) rmSync(user.path(file));
    const before = user.files();

    const refused = await user.refused('REPOSITORY_FOREIGN', 'backup', disk, '--vm', 'vm');
    expect(refused.advice).toContain('--take-over');
    const place = user.path('home/repositories/default');
    await user.json('repo', 'add', 'default', '--path', place, '--take-over');
    expect(await user.json('repo', 'rescan', 'default')).toMatchObject({ found: 2, added: 2 });
    expect(user.files()).toEqual(before);
    expect(await user.json('verify', '--repo', 'default')).toMatchObject({ checked: 2, damaged: [] });
    expect(await user.backup(disk, 'vm')).toMatchObject({ backup_type: 'incremental' });
    await user.verifyAll();

    renameSync(place, user.path('elsewhere'));
    const raw = user.path('by-qemu.raw');
    qemuImg('convert', '-f', 'qcow2', '-O', 'raw', image.replace(place, user.path('elsewhere')), raw);
    expect(readFileSync(raw).subarray(0, 400_000).equals(readFileSync(copy))).toBe(true);
  });
});
