// A restore point mounted by the kernel: its own NBD client over an export, a file system on that, files read and written.
// Runs inside of user-mode-linux only (test/servers/uml.ts).

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { makeFileSystem, noise, ScratchHome } from '../flow/scratch-home.ts';
import { endServing, startServing } from '../flow/start-serving.ts';

const MIB = 1 << 20;
const DEVICE = '/dev/nbd0';
const user = new ScratchHome(mkdtempSync(join(tmpdir(), 'chainkeep-nbd-')));
const disk = user.path('disk.img');
const point = user.path('point');
let backupId: string;

const run = (tool: string, ...args: readonly string[]): string => execFileSync(tool, args, { encoding: 'utf8', timeout: 120_000 });

beforeAll(async () => {
  run('modprobe', '-d', '/mnt/modules', 'nbd');
  mkdirSync(point);
  makeFileSystem(disk, 64 * MIB);
  backupId = (await user.backup(disk, 'web')).backup_id;
});
afterAll(() => rmSync(user.folder, { recursive: true }));

/** The kernel takes the export over: it talks to the server by itself from then on. */
function attach(address: string): void {
  const [, name = '', socket = ''] = /^nbd\+unix:\/\/\/(\w+)\?socket=(.*)$/.exec(address) ?? [];
  run('nbd-client', '-unix', socket, DEVICE, '-N', name, '-block-size', '512');
  onTestFinished(() => void run('nbd-client', '-d', DEVICE));
}

/** The files of `makeFileSystem`. */
function expectFiles(): void {
  for (let index = 0; index < 20; index += 1) {
    expect(readFileSync(join(point, `etc/file-${index}`)).equals(noise(index * 3_000, index)), `file ${index}`).toBe(true);
  }
}

describe('a restore point that the kernel has as a device', () => {
  it('is mounted read-only, and every file is as it was', async () => {
    const serving = await startServing<{ readonly address: string }>(user, 'export', backupId);
    attach(serving.address);
    run('mount', '-t', 'ext4', '-o', 'ro,noload', DEVICE, point);
    expectFiles();
    run('umount', point);
    expect(readFileSync(DEVICE).equals(readFileSync(disk))).toBe(true);
    expect(() => writeFileSync(DEVICE, 'x')).toThrow();
    run('nbd-client', '-d', DEVICE);
    await endServing(serving);
  });

  it('is mounted to be written, keeps what is written for as long as it is served, and the backup is what it was', async () => {
    const serving = await startServing<{ readonly address: string }>(user, 'export', backupId, '--writable');
    attach(serving.address);
    const bytes = noise(9 * MIB, 5);
    run('mount', '-t', 'ext4', DEVICE, point);
    expectFiles();
    writeFileSync(join(point, 'new'), bytes);
    run('umount', point);
    run('nbd-client', '-d', DEVICE);
    attach(serving.address);
    run('e2fsck', '-f', '-n', DEVICE);
    run('mount', '-t', 'ext4', DEVICE, point);
    expectFiles();
    expect(readFileSync(join(point, 'new')).equals(bytes)).toBe(true);
    rmSync(join(point, 'new'));
    run('fstrim', point);
    run('umount', point);
    run('nbd-client', '-d', DEVICE);
    await endServing(serving);
    await user.expectRestores(backupId, disk);
    await user.verifyAll();
  });
});
