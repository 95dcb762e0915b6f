// Restore points that are served for a while and thrown away: writable exports, and all disks of a VM at a time.
// 'qemu-img', 'qemu-io', 'nbdcopy' write and compare.

import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import type { BackupOutcome, ServedExport } from '../../src/app-interface.ts';
import { runTool } from '../nbd/nbd-peers.ts';
import { noise, qemuIo, sharedScratchHome } from './scratch-home.ts';
import { endServing, type Serving, startServing } from './start-serving.ts';

const MIB = 1 << 20;
const user = sharedScratchHome();
const disk = user.path('disk.img');
let backup: BackupOutcome;

beforeAll(async () => {
  writeFileSync(disk, Buffer.concat([noise(3 * MIB, 1), Buffer.alloc(9 * MIB), noise(4 * MIB + 512, 2)]));
  backup = await user.backup(disk, 'web');
});

interface ServedBackup {
  readonly address: string;
  readonly job_id: string;
}

const serve = (...args: readonly string[]): Promise<Serving<ServedBackup>> => startServing(user, 'export', backup.backup_id, ...args);

/** What a guest does to its disk: whole clusters, parts of them, across their borders, zeros and trims. */
const GUEST = [
  'write -P 7 100 3000',
  'write -P 8 65000 70000',
  'write -z 1M 300k',
  'discard 13M 1M',
  'write -P 9 5M 1M',
  'write -z -u 14M 64k',
];

async function guestWrites(address: string): Promise<void> {
  const commands = GUEST.flatMap((command) => ['-c', command]);
  expect(await runTool('qemu-io', '-f', 'raw', '-d', 'unmap', address, ...commands)).toMatchObject({ code: 0 });
}

describe('a writable export', () => {
  it('keeps what a guest writes until it ends; the backup and the next export know nothing of it', async () => {
    const model = user.save(disk, 'model.img');
    qemuIo(model, 'raw', ...GUEST.map((command) => command.replace(/^discard/, 'write -z').replace(' -u', '')));
    const serving = await serve('--writable');
    await guestWrites(serving.address);
    expect(await runTool('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', serving.address, model)).toMatchObject({ code: 0 });
    // A second client, over several connections, sees the same.
    expect(await runTool('nbdcopy', '--connections=4', serving.address, user.path('copied.img'))).toMatchObject({ code: 0 });
    expect(readFileSync(user.path('copied.img')).equals(readFileSync(model))).toBe(true);
    const beside = await serve('--writable', '--scratch', user.path('elsewhere'), '--scratch-size', '64M');
    expect(await runTool('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', beside.address, disk)).toMatchObject({ code: 0 });
    await endServing(beside);
    await endServing(serving);
    expect(user.files('home/scratch')).toEqual([]);
    expect(user.files('elsewhere')).toEqual([]);
    expect(statSync(user.path('elsewhere')).mode & 0o777).toBe(0o700);
    await user.expectRestores(backup.backup_id, disk);
    expect((await user.verifyAll()).damaged).toEqual([]);
  });

  it('takes a whole disk that is copied onto it', async () => {
    const other = user.path('other.img');
    writeFileSync(other, noise(16 * MIB + 512, 9));
    const serving = await serve('--writable');
    expect(await runTool('nbdcopy', '--connections=4', other, serving.address)).toMatchObject({ code: 0 });
    expect(await runTool('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', serving.address, other)).toMatchObject({ code: 0 });
    await endServing(serving);
    await user.expectRestores(backup.backup_id, disk);
  });

  it('tells a guest that it has no room, and the person why', async () => {
    const serving = await serve('--writable', '--scratch-size', '256k');
    const write = await runTool('qemu-io', '-f', 'raw', serving.address, '-c', 'write 0 256k', '-c', 'write 1M 4k');
    expect(write).toMatchObject({ code: 1, stdout: expect.stringContaining('No space left on device') });
    await serving.command.said('what is written needs more than the 262144 bytes that it may take');
    await endServing(serving);
  });

  it('is refused where the room that it is to have is not there, and with options that do not fit', async () => {
    const refusal = await user.refused('INSUFFICIENT_STORAGE', 'export', backup.backup_id, '--writable', '--scratch-size', '4P');
    expect(refusal).toMatchObject({ required_bytes: 4 * 1024 ** 5, available_bytes: expect.any(Number) });
    await user.refused('USAGE', 'export', backup.backup_id, '--scratch-size', '4M');
  });
});

describe('a restore point', () => {
  const second = user.path('second.img');

  /** A whole second is between what comes before and what comes after. */
  async function time(): Promise<string> {
    await new Promise((resolve) => setTimeout(resolve, 1100));
    return new Date().toISOString().replace(/\.\d+Z$/, 'Z');
  }

  it('is served with all its disks as they were at a time', async () => {
    writeFileSync(second, noise(2 * MIB, 5));
    const before = await time();
    const disks = ['--disk', `0=${disk}`, '--disk', `3=${second}`];
    await user.json('backup', '--vm', 'pair', ...disks);
    const [then, copy] = [await time(), user.save(second, 'second-then.img')];
    qemuIo(second, 'raw', 'write -P 1 1M 100k');
    await user.json('backup', '--vm', 'pair', ...disks);
    await user.refused('BACKUP_NOT_FOUND', 'export', '--vm', 'pair', '--at', before);
    const serving = await startServing<ServedExport>(user, 'export', '--vm', 'pair', '--at', then, '--writable');
    expect(serving.disks.map(({ disk_id }) => disk_id)).toEqual([0, 3]);
    expect(new Set(serving.disks.map(({ address }) => address)).size).toBe(2);
    for (const [index, saved] of [disk, copy].entries()) {
      const { address = '', total_bytes } = serving.disks[index] ?? {};
      expect(total_bytes).toBe(statSync(saved).size);
      expect(await runTool('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', address, saved)).toMatchObject({ code: 0 });
    }
    await endServing(serving);
  });

  it('that lacks a disk is refused, and a disk of other runs is told of', async () => {
    await user.json('backup', '--vm', 'torn', '--disk', `0=${disk}`, '--disk', `1=${second}`);
    const torn = (await user.list('--vm', 'torn')).find(({ disk_id }) => disk_id === 1);
    await user.json('delete', torn?.backup_id ?? '');
    const refusal = await user.refused('RESTORE_POINT_INCOMPLETE', 'export', '--vm', 'torn', '--at', '2100-01-01T00:00Z');
    expect(refusal).toMatchObject({ missing_disks: ['1'], error: expect.stringContaining('lacks disk 1; it has disk 0: ') });
    await user.backup(disk, 'torn', '--disk', '5');
    const serving = await startServing<ServedExport>(user, 'export', '--vm', 'torn', '--at', '2100-01-01T00:00Z');
    expect(serving.disks.map(({ disk_id }) => disk_id)).toEqual([5]);
    await serving.command.said('disk 0 of torn was backed up by other runs');
    await endServing(serving);
  });

  it('needs a VM and a time', async () => {
    await user.refused('USAGE', 'export', '--vm', 'web');
    await user.refused('USAGE', 'export', backup.backup_id, '--at', '2100-01-01T00:00Z');
    await user.refused('VM_NOT_FOUND', 'export', '--vm', 'nobody', '--at', '2100-01-01T00:00Z');
  });
});
