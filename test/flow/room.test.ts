// Room, as a user meets it, on small file systems of their own: warned at 90 %, refused at 95 %, refused before anything is read where it will not
// fit, and of two backups for the last room one gets it.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { RepositoryView } from '../../src/app-interface.ts';
import { mountExt4, mountTmpfs, type TemporaryMount } from '../store/temporary-mount.ts';
import { noise, type ScratchHome, scratchHome } from './scratch-home.ts';

const MIB = 1 << 20;
// Far slower than any machine starts the second one; the first is killed before it ends.
const SLOW = 'pread64:delay_enter=1000000';

interface Storage {
  readonly repositories: readonly (RepositoryView['storage'] & {
    readonly health_status: string;
    readonly reserved_bytes: number;
    readonly growth_bytes_per_day: number | null;
    readonly days_until_full: number | null;
  })[];
}

function use(mount: TemporaryMount | string): TemporaryMount | string {
  if (typeof mount !== 'string') onTestFinished(() => mount.dispose());
  return mount;
}

async function storage(user: ScratchHome) {
  const [one] = (await user.json<Storage>('repo', 'storage', '--refresh')).repositories;
  if (!one) throw new Error('there is no repository');
  return one;
}

/** Fills the file system until so many percent of it are used. */
async function fillTo(user: ScratchHome, path: string, percent: number): Promise<void> {
  const { used_bytes: used, available_bytes: available } = await storage(user);
  const bytes = Math.ceil(((used + available) * percent) / 100) - used;
  writeFileSync(join(path, `filler-${percent}`), Buffer.alloc(bytes, 1));
}

describe('a repository that fills up', () => {
  it('warns from 90 %, takes nothing from 95 %, and goes on when there is room again', async (context) => {
    const user = scratchHome();
    const mount = use(mountExt4(user.path('ext4'), 64 * MIB));
    if (typeof mount === 'string') return context.skip(mount);
    const disk = user.path('disk.img');
    writeFileSync(disk, noise(MIB, 1));
    await user.json('repo', 'add', 'small', '--path', join(mount.path, 'repository'));
    const first = await user.run('backup', disk, '--vm', 'vm', '--json');
    expect([first.code, first.stderr]).toEqual([0, expect.not.stringContaining('full')]);
    expect(await storage(user)).toMatchObject({ health_status: 'healthy', growth_bytes_per_day: null, days_until_full: null });
    await fillTo(user, mount.path, 91);
    expect(await storage(user)).toMatchObject({ health_status: 'warning' });
    const warned = await user.run('backup', disk, '--vm', 'vm', '--type', 'full', '--json');
    expect([warned.code, warned.stderr]).toEqual([0, expect.stringMatching(/the repository small is 9\d(\.\d)? % full/)]);
    await fillTo(user, mount.path, 96);
    expect(await storage(user)).toMatchObject({ health_status: 'critical' });
    const before = user.files();
    for (const dry of [[], ['--dry-run']]) {
      const refused = await user.refused('INSUFFICIENT_STORAGE', 'backup', disk, '--vm', 'vm', ...dry);
      expect(refused).toMatchObject({ required_bytes: expect.any(Number), available_bytes: expect.any(Number) });
      expect(refused.error).toMatch(/^the repository small is 9[67](\.\d)? % full/);
    }
    expect(user.files()).toEqual(before);
    const newest = (await user.list('--status', 'completed')).at(0)?.backup_id ?? '';
    await user.expectRestores(newest, disk);
    const { rmSync } = await import('node:fs');
    rmSync(join(mount.path, 'filler-96'));
    await user.backup(disk, 'vm');
    await user.verifyAll('small');
  });

  it('refuses what will not fit before it reads it, and takes the nightly one that will', async (context) => {
    const user = scratchHome();
    const mount = use(mountTmpfs('size=50m'));
    if (typeof mount === 'string') return context.skip(mount);
    await user.json('repo', 'add', 'small', '--path', mount.path);
    const [large, disk] = [user.path('large.img'), user.path('disk.img')];
    writeFileSync(large, noise(60 * MIB, 1));
    const refused = await user.refused('INSUFFICIENT_STORAGE', 'backup', large, '--vm', 'large');
    expect(refused).toMatchObject({ required_bytes: expect.any(Number), available_bytes: expect.any(Number), reserved_bytes: 0 });
    expect(Number(refused.required_bytes)).toBeGreaterThan(60 * MIB);
    expect(Number(refused.available_bytes)).toBeLessThanOrEqual(50 * MIB);
    expect([await user.list(), await user.json('vms')]).toEqual([[], { vms: [] }]);
    // Two disks that fit one by one and not together are refused before the first one is there.
    writeFileSync(disk, noise(40 * MIB, 2));
    await user.refused(
      'INSUFFICIENT_STORAGE',
      'backup',
      '--disk',
      `0=${disk}`,
      '--disk',
      `1=${disk}`,
      '--vm',
      'both',
      '--compression',
      'none',
    );
    expect(user.files().filter((name) => name.includes('.qcow2'))).toEqual([]);
    const full = await user.backup(disk, 'vm', '--compression', 'none');
    expect((await storage(user)).used_percentage).toBeGreaterThan(80);
    const nightly = await user.backup(disk, 'vm', '--compression', 'none');
    expect(nightly).toMatchObject({ backup_type: 'incremental', parent_backup_id: full.backup_id });
    await user.refused('INSUFFICIENT_STORAGE', 'backup', disk, '--vm', 'vm', '--type', 'full');
    await user.verifyAll('small');
    expect(await storage(user)).toMatchObject({ reserved_bytes: 0 });
  });
});

describe('two backups for the last room', () => {
  it('one gets it; and of one that was killed nothing is reserved any more', async (context) => {
    const user = scratchHome();
    const mount = use(mountTmpfs('size=100m'));
    if (typeof mount === 'string') return context.skip(mount);
    await user.json('repo', 'add', 'small', '--path', mount.path);
    writeFileSync(join(mount.path, 'other'), Buffer.alloc(25 * MIB, 1));
    const disks = ['a', 'b'].map((name) => user.path(`${name}.img`));
    const [first = '', second = ''] = disks;
    for (const [index, disk] of disks.entries()) writeFileSync(disk, noise(40 * MIB, index));
    const run = user.startWithFault(SLOW, first, 'backup', first, '--vm', 'a', '--compression', 'none');
    while ((await storage(user)).reserved_bytes === 0);
    // Neither room nor time for both: what the first one has not written yet is not the second one's.
    const refused = await user.refused('INSUFFICIENT_STORAGE', 'backup', second, '--vm', 'b', '--compression', 'none');
    expect(Number(refused.reserved_bytes)).toBeGreaterThan(0);
    expect(Number(refused.required_bytes) + Number(refused.reserved_bytes)).toBeGreaterThan(Number(refused.available_bytes));
    expect(Number(refused.required_bytes)).toBeLessThan(Number(refused.available_bytes));
    run.kill('SIGKILL');
    await run.ended;
    await user.backup(second, 'b', '--compression', 'none');
    expect(await storage(user)).toMatchObject({ reserved_bytes: 0 });
    await user.verifyAll('small');
  });
});
