// The main flow as a user walks through it: back a disk up again and again, look at what there is, verify, give every restore point back.

import { chmodSync, cpSync, globSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { BackupDetails, BackupOutcome, ChainView, RestoreOutcome, VerifyOutcome, VmView } from '../../src/app-interface.ts';
import { bytesOnDisk, makeFileSystem, noise, qemuImg, qemuIo, type ScratchHome, sharedScratchHome } from './scratch-home.ts';

const MIB = 1 << 20;

interface Point {
  readonly outcome: BackupOutcome;
  readonly copy: string;
}

describe('a file system through its life', () => {
  const user: ScratchHome = sharedScratchHome();
  const disk = user.path('disk.img');
  const points: Point[] = [];

  async function take(...options: readonly string[]): Promise<BackupOutcome> {
    const outcome = await user.backup(disk, 'web', ...options);
    points.push({ outcome, copy: user.save(disk, `copy-${points.length}.img`) });
    return outcome;
  }

  beforeAll(async () => {
    makeFileSystem(disk, 48 * MIB);
    await take();
    qemuIo(disk, 'raw', 'write -P 0x51 20M 200k', 'write -P 0x52 40M 4k');
    await take();
    qemuIo(disk, 'raw', 'write -z 20M 64k', 'write -P 0x53 1M 64k');
    await take('--type', 'differential', '--compression', 'none');
    qemuIo(disk, 'raw', 'write -P 0x51 20M 64k');
    await take('--type', 'incremental');
    qemuIo(disk, 'raw', 'discard 30M 10M', 'write -P 0x54 47M 1M');
    await take('--type', 'full');
    await take();
  }, 60_000);

  it('takes what was asked for, and full or incremental by itself', () => {
    const [full, first, differential, second, again, last] = points.map(({ outcome }) => outcome);
    expect(points.map(({ outcome }) => outcome.backup_type)).toEqual([
      'full',
      'incremental',
      'differential',
      'incremental',
      'full',
      'incremental',
    ]);
    expect(points.map(({ outcome }) => outcome.parent_backup_id)).toEqual([
      null,
      full?.backup_id,
      full?.backup_id,
      differential?.backup_id,
      null,
      again?.backup_id,
    ]);
    // 200 KiB at 20 MiB are four clusters, 4 KiB at 40 MiB are one.
    expect(first?.clusters_written).toBe(5);
    expect(second?.clusters_written).toBe(1);
    expect(last).toMatchObject({ clusters_written: 0, bytes_written: 0 });
  });

  it('gives every restore point back as the disk was at that moment', async () => {
    for (const { outcome, copy } of points) {
      await user.expectRestores(outcome.backup_id, copy);
      const image = user.image(outcome.backup_id);
      expect(qemuImg('compare', '-f', 'raw', '-F', 'qcow2', copy, image)).toContain('identical');
      expect(qemuImg('check', '-f', 'qcow2', image)).toContain('No errors');
    }
  });

  it('answers the shapes of the contract', async () => {
    const [first] = points;
    expect(Object.keys(first?.outcome ?? {})).toEqual([
      ...['success', 'backup_id', 'backup_type', 'parent_backup_id', 'vm_context_id', 'disk_id', 'repository', 'total_bytes', 'size_bytes'],
      ...['bytes_read', 'bytes_written', 'clusters_written', 'duration_ms', 'job_id', 'restore_point_id', 'changes'],
    ]);
    const backups = await user.list();
    expect(backups.map((backup) => backup.backup_id)).toEqual(points.map(({ outcome }) => outcome.backup_id).reverse());
    const fields = [
      ...['backup_id', 'vm_name', 'vm_context_id', 'disk_id', 'backup_type', 'status', 'parent_backup_id', 'repository', 'size_bytes'],
      ...['total_bytes', 'created_at', 'completed_at'],
    ];
    expect(Object.keys(backups[0] ?? {})).toEqual(fields);

    const { chains } = await user.json<{ chains: ChainView[] }>('chain', '--vm', 'web');
    expect(Object.keys(chains[0] ?? {})).toEqual([
      ...['chain_id', 'vm_context_id', 'disk_id', 'repository', 'full_backup_id', 'latest_backup_id', 'total_backups', 'total_size_bytes'],
      'backups',
    ]);
    expect(Object.keys(chains[0]?.backups[0] ?? {})).toEqual(fields);
    expect(chains.map((chain) => chain.backups.map((backup) => backup.backup_id))).toEqual([
      points.slice(4).map(({ outcome }) => outcome.backup_id),
      points.slice(0, 4).map(({ outcome }) => outcome.backup_id),
    ]);
    const oldest = chains[1]?.backups ?? [];
    expect(chains[1]).toMatchObject({
      full_backup_id: first?.outcome.backup_id,
      latest_backup_id: points[3]?.outcome.backup_id,
      total_backups: 4,
      total_size_bytes: oldest.reduce((sum, backup) => sum + backup.size_bytes, 0),
    });
    expect(await user.json('chain', '--vm', 'web', '--disk', '7')).toEqual({ chains: [] });

    const { vms } = await user.json<{ vms: VmView[] }>('vms');
    expect(Object.keys(vms[0] ?? {})).toEqual([
      ...['vm_context_id', 'vm_name', 'external_id', 'platform', 'backup_count', 'size_bytes', 'last_backup_at', 'created_at'],
    ]);
    expect(vms).toMatchObject([{ vm_name: 'web', backup_count: 6 }]);
  });

  it('shows a backup by a beginning of its id and by "latest"', async () => {
    const last = points.at(-1)?.outcome;
    const shown = await user.json<BackupDetails>('show', 'latest', '--vm', 'web');
    expect(shown).toMatchObject({ backup_id: last?.backup_id, compression: 'zstd', cluster_size: 65_536, source: 'file', dependents: [] });
    expect(await user.json('show', String(last?.backup_id).slice(0, -2))).toEqual(shown);
    const text = (await user.run('show', 'latest', '--vm', 'web')).stdout;
    expect(text).toContain(`backup         ${last?.backup_id}`);
    expect(text).toMatch(/^path +vms\/.*\.qcow2$/m);
    const full = await user.json<BackupDetails>('show', String(points[0]?.outcome.backup_id));
    expect(full.dependents).toEqual([points[1]?.outcome.backup_id, points[2]?.outcome.backup_id]);
  });

  it('verifies a backup, a VM, a repository, and by metadata only', async () => {
    const all = await user.verifyAll();
    expect(Object.keys(all)).toEqual(['success', 'checked', 'clusters', 'bytes', 'damaged', 'job_id']);
    expect(all).toMatchObject({ success: true, checked: 6, damaged: [] });
    const stored = points.reduce((sum, { outcome }) => sum + outcome.clusters_written, 0);
    expect(all.clusters).toBe(stored);
    expect(await user.json('verify', '--vm', 'web')).toMatchObject({ checked: 6, clusters: stored });
    // With everything it stands on: the incremental on the differential on the full.
    expect(await user.json('verify', String(points[3]?.outcome.backup_id))).toMatchObject({ checked: 3 });
    expect(await user.json('verify', 'latest', '--vm', 'web', '--quick')).toMatchObject({ checked: 2, clusters: 0, bytes: 0 });
    expect((await user.run('verify', '--repo', 'default')).stdout).toMatch(/^6 backups checked, no damage \(\d+ clusters, .*\)\n$/);
    expect(await user.json<BackupDetails>('show', 'latest', '--vm', 'web')).toMatchObject({ verification_status: 'passed' });
  });

  it('restores sparse, over a file with --force, as QCOW2, and only says so with --dry-run', async () => {
    const { outcome, copy } = points[4] as Point;
    const target = user.path('target.img');
    const planned = await user.json<RestoreOutcome>('restore', outcome.backup_id, target, '--dry-run');
    expect(planned).toMatchObject({ dry_run: true, job_id: null, chain: [outcome.backup_id], total_bytes: 48 * MIB });
    expect(user.files()).not.toContainEqual(expect.stringContaining('target.img'));

    const restored = await user.json<RestoreOutcome>('restore', outcome.backup_id, target);
    expect(Object.keys(restored)).toEqual([
      ...['success', 'job_id', 'backup_id', 'target', 'total_bytes', 'bytes_written', 'bytes_read', 'duration_ms', 'chain'],
    ]);
    expect(bytesOnDisk(target)).toBeLessThan(bytesOnDisk(copy) + 4 * MIB);
    expect(bytesOnDisk(target)).toBeLessThan(12 * MIB);

    writeFileSync(target, noise(60 * MIB, 7));
    await user.refused('TARGET_EXISTS', 'restore', outcome.backup_id, target);
    expect(readFileSync(target).equals(noise(60 * MIB, 7))).toBe(true);
    await user.json('restore', outcome.backup_id, target, '--force');
    expect(readFileSync(target).equals(readFileSync(copy))).toBe(true);

    rmSync(target);
    await user.json('restore', String(points[3]?.outcome.backup_id), target, '--format', 'qcow2');
    expect(qemuImg('check', '-f', 'qcow2', target)).toContain('No errors');
    expect(qemuImg('compare', '-f', 'raw', '-F', 'qcow2', String(points[3]?.copy), target)).toContain('identical');
    expect(qemuImg('info', '-f', 'qcow2', target)).not.toContain('backing');
    rmSync(target);
  });

  it('keeps owner and mode of a file that is restored over', async () => {
    const target = user.path('owned.img');
    writeFileSync(target, 'old');
    chmodSync(target, 0o664);
    await user.json('restore', String(points[0]?.outcome.backup_id), target, '--force');
    expect(user.files().filter((file) => file.includes('owned.img'))).toEqual([`owned.img ${48 * MIB}`]);
    rmSync(target);
  });

  it('leaves plain images: qemu-img restores from a moved repository without Chainkeep', () => {
    const [folder] = globSync('home/repositories/default/vms/*/disk-0', { cwd: user.folder });
    cpSync(user.path(String(folder)), user.path('moved'), { recursive: true });
    for (const index of [3, 5]) {
      const { outcome, copy } = points[index] as Point;
      const raw = user.path('by-qemu.raw');
      qemuImg('convert', '-f', 'qcow2', '-O', 'raw', join(user.path('moved'), `${outcome.backup_id}.qcow2`), raw);
      expect(readFileSync(raw).equals(readFileSync(copy))).toBe(true);
    }
    rmSync(user.path('moved'), { recursive: true });
  });

  it('has written every run into the job log', async () => {
    const jobs = (await user.jobs()).filter((job) => job.job_type === 'backup');
    expect(jobs.map((job) => job.status)).toEqual(points.map(() => 'completed'));
    const { job, steps } = await user.showJob(String(points[1]?.outcome.job_id));
    expect(job).toMatchObject({ operation: 'backup of web, disk 0, to default', percent_complete: 100, error_message: null });
    expect(steps.every((step) => step.status === 'completed')).toBe(true);
    expect(Object.keys(steps[0] ?? {})).toEqual(['seq', 'name', 'status', 'started_at', 'completed_at', 'error_message']);
    expect((await user.jobLog(job.job_id)).map((event) => event.message)).toContainEqual(
      `incremental backup ${points[1]?.outcome.backup_id}: the newest completed backup of the chain is ${points[0]?.outcome.backup_id}`,
    );
    const text = await user.run('jobs');
    expect(text.stdout).toContain('backup of web, disk 0, to default');
  });

  it('names in the job log what was verified and restored', async () => {
    const operations = (await user.jobs()).map((job) => job.operation);
    const last = String(points.at(-1)?.outcome.backup_id);
    expect(operations).toContainEqual(`verify backup ${last} of web, disk 0 (metadata only)`);
    expect(operations).toContain('verify repository default');
    expect(operations).toContainEqual(`restore of web, disk 0, ${points[3]?.outcome.backup_id}, to ${user.path('target.img')}`);
  });
});

describe('several disks', () => {
  const user: ScratchHome = sharedScratchHome();

  it('are one restore point, each with a chain of its own', async () => {
    writeFileSync(user.path('system.img'), noise(2 * MIB, 1));
    writeFileSync(user.path('data.img'), noise(1_300_000, 2));
    const disks = ['--disk', `0=${user.path('system.img')}`, '--disk', '3=data.img', '--vm', 'db'];
    type Answer = { restore_point_id: string; backups: BackupOutcome[] };
    const first = await user.json<Answer>('backup', ...disks);
    expect(first.backups.map((backup) => [backup.disk_id, backup.total_bytes])).toEqual([
      [0, 2 * MIB],
      [3, 1_300_000],
    ]);
    const copies = [user.save(user.path('system.img'), 's1'), user.save(user.path('data.img'), 'd1')];
    qemuIo(user.path('system.img'), 'raw', 'write -P 1 0 64k');
    const second = await user.json<Answer>('backup', ...disks);
    expect(second.backups.map((backup) => backup.parent_backup_id)).toEqual(first.backups.map((backup) => backup.backup_id));
    expect(new Set(second.backups.map((backup) => backup.restore_point_id))).toEqual(new Set([second.restore_point_id]));
    expect(new Set(second.backups.map((backup) => backup.job_id)).size).toBe(1);
    for (const [index, backup] of first.backups.entries()) await user.expectRestores(backup.backup_id, String(copies[index]));
    await user.expectRestores(String(second.backups[0]?.backup_id), user.path('system.img'));
    await user.expectRestores(String(second.backups[1]?.backup_id), user.path('data.img'));

    const ambiguous = await user.refused('BACKUP_AMBIGUOUS', 'restore', 'latest', user.path('x'), '--vm', 'db');
    for (const backup of second.backups) expect(ambiguous.error + ambiguous.advice).toContain(backup.backup_id);
    expect(await user.json<VerifyOutcome>('verify', '--vm', 'db')).toMatchObject({ checked: 4, damaged: [] });
    const text = await user.run('backup', ...disks);
    expect(text.stdout.trimEnd().split('\n')).toHaveLength(2);
  });

  it('are all taken back from the catalog when one of them is deleted by hand, and only the newest can go', async () => {
    const backups = await user.list('--vm', 'db');
    const oldest = String(backups.findLast((backup) => backup.disk_id === 0)?.backup_id);
    const newest = String(backups.find((backup) => backup.disk_id === 0)?.backup_id);
    const before = user.files();
    const refused = await user.refused('BACKUP_HAS_DEPENDENTS', 'delete', oldest);
    expect(refused.dependents).toContain(newest);
    expect(user.files()).toEqual(before);
    const planned = await user.json<{ freed_bytes: number }>('delete', newest, '--dry-run');
    expect(user.files()).toEqual(before);
    expect(await user.json('delete', newest)).toMatchObject({ success: true, backup_id: newest, freed_bytes: planned.freed_bytes });
    expect(before.filter((file) => !user.files().includes(file)).every((file) => file.includes(newest))).toBe(true);
    await user.refused('BACKUP_NOT_FOUND', 'show', newest);
    await user.verifyAll();
  });
});
