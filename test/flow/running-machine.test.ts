// Backups of a running machine through its monitor: all disks in one moment, while the guest writes; incremental after incremental; everything given back.

import { globSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { BackupOutcome } from '../../src/app-interface.ts';
import { peerFolder } from '../nbd/nbd-peers.ts';
import { startQemu, type VmDiskFile } from './running-qemu.ts';
import { noise, qemuImg, sharedScratchHome } from './scratch-home.ts';

const MIB = 1 << 20;
const user = sharedScratchHome();
const sockets = peerFolder();

interface Machine {
  readonly name: string;
  readonly disks: readonly VmDiskFile[];
  readonly scratch: string;
  readonly folder: string;
}

/** A QCOW2 disk of 24 MiB and a raw one of 10 MiB, all noise. */
function makeMachine(name: string): Machine {
  const raw = user.path(`${name}-0.raw`);
  writeFileSync(raw, noise(24 * MIB, 1));
  qemuImg('convert', '-f', 'raw', '-O', 'qcow2', raw, user.path(`${name}-0.qcow2`));
  writeFileSync(user.path(`${name}-1.img`), noise(10 * MIB, 2));
  mkdirSync(user.path(`${name}-scratch`));
  mkdirSync(sockets(name));
  return {
    name,
    disks: [
      { path: user.path(`${name}-0.qcow2`), format: 'qcow2' },
      { path: user.path(`${name}-1.img`), format: 'raw' },
    ],
    scratch: user.path(`${name}-scratch`),
    folder: sockets(name),
  };
}

const command = (address: string, { name, scratch }: Machine, ...more: readonly string[]): readonly string[] => [
  ...['backup', address, '--vm', name, '--scratch', scratch, ...more, '--json'],
];

interface Point {
  readonly backups: readonly BackupOutcome[];
}

const reads = ({ backups }: Point): number[] => backups.map(({ bytes_read: bytes }) => bytes);

describe('a running machine', () => {
  it('is one restore point of all disks, each as it was in one moment, while the guest goes on writing', async () => {
    const machine = makeMachine('writing');
    const vm = await startQemu(machine.folder, machine.disks, '-drive', 'if=ide,media=cdrom');
    const take = async (during: readonly string[], ...more: readonly string[]): Promise<Point> => {
      const copies = machine.disks.map((_, disk) => vm.save(disk, user.path(`moment-${disk}.raw`)));
      const running = user.start(...command(vm.address, machine, ...more));
      await user.appears('writing-scratch/chainkeep-*/nbd.sock');
      running.kill('SIGSTOP');
      for (const disk of [0, 1]) if (during.length > 0) await vm.write(disk, ...during);
      running.kill('SIGCONT');
      const run = await running.ended;
      expect(run.code, run.stderr).toBe(0);
      const point: Point = JSON.parse(run.stdout);
      for (const backup of point.backups) await user.expectRestores(backup.backup_id, copies[backup.disk_id] ?? '');
      return point;
    };
    const full = await take(['write -P 1 0 1M', 'write -P 2 9M 128k']);
    expect(full.backups.map(({ disk_id, backup_type }) => [disk_id, backup_type])).toEqual([
      [0, 'full'],
      [1, 'full'],
    ]);
    expect(reads(full)).toEqual([24 * MIB, 10 * MIB]);
    const first = await take(['write -P 3 4M 64k', 'write -z 5M 64k']);
    expect(reads(first)).toEqual([MIB + 131_072, MIB + 131_072]);
    expect(first.backups.every(({ changes }) => changes.includes('only what the bitmap chainkeep-'))).toBe(true);
    const second = await take([]);
    expect(reads(second).every((bytes) => bytes <= 131_072)).toBe(true);
    const differential = await take([], '--type', 'differential');
    expect(reads(differential).every((bytes) => bytes > MIB && bytes <= MIB + 5 * 65_536)).toBe(true);
    expect(await vm.leftovers()).toEqual([]);
    // That of the full and that of the newest.
    expect([(await vm.bitmaps(0)).length, (await vm.bitmaps(1)).length]).toEqual([2, 2]);
    expect(readdirSync(machine.scratch)).toEqual([]);
    expect(new Set(second.backups.map((backup) => backup.restore_point_id)).size).toBe(1);
    expect(await user.verifyAll()).toMatchObject({ damaged: [] });
  });

  it('that was shut down and started again goes on where its images keep the bitmaps, and says where not', async () => {
    const machine = makeMachine('restarted');
    const vm = await startQemu(machine.folder, machine.disks);
    const full = await user.run(...command(vm.address, machine));
    expect(full.code, full.stderr).toBe(0);
    await vm.write(0, 'write -P 5 3M 64k');
    await vm.quit();
    const again = await startQemu(machine.folder, machine.disks);
    const plan = await user.json<Point>('backup', again.address, '--vm', 'restarted', '--dry-run');
    expect(plan.backups.map(({ changes }) => changes.includes('only what'))).toEqual([true, false]);
    const run = await user.run(...command(again.address, machine));
    expect(reads(JSON.parse(run.stdout))).toEqual([65_536, 10 * MIB]);
    expect(run.stderr).toMatch(/^note: QEMU does not tell what changed since .*: all of the disk is read and compared$/m);
    await again.kill();
    // It did not shut down: the bitmap in the image is inconsistent now.
    const third = await startQemu(machine.folder, machine.disks);
    const compared = await user.run(...command(third.address, machine));
    expect(reads(JSON.parse(compared.stdout))).toEqual([24 * MIB, 10 * MIB]);
    expect((await third.bitmaps(0)).length).toBe(1);
  });
});

it('whose disks have changed places does not take the changes of one for those of the other', async () => {
  const machine = makeMachine('swapped');
  const [first, raw] = machine.disks;
  if (!first || !raw) throw new Error('two disks were made');
  qemuImg('convert', '-f', 'raw', '-O', 'qcow2', raw.path, user.path('swapped-1.qcow2'));
  qemuImg('resize', '-q', user.path('swapped-1.qcow2'), '24M');
  const disks = [first, { path: user.path('swapped-1.qcow2'), format: 'qcow2' }] as const;
  const vm = await startQemu(machine.folder, disks);
  const full = await user.run(...command(vm.address, machine));
  expect(full.code, full.stderr).toBe(0);
  await vm.quit();
  // Each image has a bitmap that began with that backup, and the machine calls both disks as it did before.
  const again = await startQemu(machine.folder, disks.toReversed());
  for (const disk of [0, 1]) await again.write(disk, `write -P ${disk + 1} 4M 64k`);
  const copies = [0, 1].map((disk) => again.save(1 - disk, user.path(`swapped-${disk}.raw`))).toReversed();
  const run = await user.run(...command(again.address, machine));
  expect(run.code, run.stderr).toBe(0);
  const { backups }: Point = JSON.parse(run.stdout);
  for (const backup of backups) {
    expect(backup.changes).toContain('all of the disk is read and compared');
    await user.expectRestores(backup.backup_id, copies[backup.disk_id] ?? '');
  }
});

describe('a backup of a running machine that ends early', () => {
  it.each(['SIGINT', 'SIGKILL'] as const)(
    'by %s loses no change, and leaves nothing behind that the next one does not remove',
    async (signal) => {
      const machine = makeMachine(`ended-${signal.toLowerCase()}`);
      const vm = await startQemu(machine.folder, machine.disks);
      const full = await user.run(...command(vm.address, machine));
      expect(full.code, full.stderr).toBe(0);
      const kept = await vm.bitmaps(0);
      await vm.write(0, 'write -P 7 1M 64k');
      const running = user.start(...command(vm.address, machine));
      await user.appears(`${machine.name}-scratch/chainkeep-*/nbd.sock`);
      running.kill('SIGSTOP');
      await vm.write(0, 'write -P 8 2M 64k');
      running.kill(signal);
      running.kill('SIGCONT');
      await running.ended;
      if (signal === 'SIGINT') {
        expect(await vm.leftovers()).toEqual([]);
        expect(await vm.bitmaps(0)).toEqual(kept);
        expect(globSync('chainkeep-*', { cwd: machine.scratch })).toEqual([]);
      } else {
        expect(await vm.leftovers()).not.toEqual([]);
      }
      await vm.write(0, 'write -P 9 5M 64k');
      const copy = vm.save(0, user.path('after.raw'));
      const next = await user.run(...command(vm.address, machine));
      expect(next.code, next.stderr).toBe(0);
      if (signal === 'SIGKILL') expect(next.stderr).toContain('a killed backup had left an export of this machine behind');
      const { backups }: Point = JSON.parse(next.stdout);
      expect(backups[0]).toMatchObject({ backup_type: 'incremental', bytes_read: 3 * 65_536 });
      await user.expectRestores(backups[0]?.backup_id ?? '', copy);
      expect(await vm.leftovers()).toEqual([]);
      expect((await vm.bitmaps(0)).length).toBe(2);
      expect(readdirSync(machine.scratch)).toEqual([]);
    },
  );

  it('between two disks keeps what each of them needs to go on', async () => {
    const machine = makeMachine('halved');
    const vm = await startQemu(machine.folder, machine.disks);
    const full = await user.run(...command(vm.address, machine));
    expect(full.code, full.stderr).toBe(0);
    const { backups }: Point = JSON.parse(full.stdout);
    for (const disk of [0, 1]) await vm.write(disk, 'write -P 7 1M 64k');
    const running = user.start(...command(vm.address, machine));
    await user.appears(`home/**/${backups[0]?.vm_context_id}/disk-0/!(${backups[0]?.backup_id}).json`);
    running.kill('SIGINT');
    await running.ended;
    expect(await vm.leftovers()).toEqual([]);
    for (const disk of [0, 1]) await vm.write(disk, 'write -P 8 3M 64k');
    const copies = [0, 1].map((disk) => vm.save(disk, user.path(`halved-${disk}.raw`)));
    const next = await user.run(...command(vm.address, machine));
    const after: Point = JSON.parse(next.stdout);
    for (const backup of after.backups) {
      expect(backup.changes).toContain('only what the bitmap');
      expect(backup.bytes_read).toBeLessThanOrEqual(131_072);
      await user.expectRestores(backup.backup_id, copies[backup.disk_id] ?? '');
    }
  });
});
