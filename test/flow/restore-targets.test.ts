// Restores to every kind of target, wanted or not: what must not be overwritten is not, and a refused or failed restore leaves nothing.

import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { mountTmpfs } from '../store/temporary-mount.ts';
import { attachLoop } from './loop-device.ts';
import { startQemuIo } from './running-vm.ts';
import { noise, qemuImg, qemuIo, sharedScratchHome, tool } from './scratch-home.ts';

const MIB = 1 << 20;
const isRoot = process.getuid?.() === 0;
const user = sharedScratchHome();
const disk = user.path('disk.img');
let backup = '';

beforeAll(async () => {
  writeFileSync(disk, Buffer.concat([noise(MIB, 1), Buffer.alloc(2 * MIB), noise(MIB + 700, 2)]));
  backup = (await user.backup(disk, 'vm')).backup_id;
});

function qemuIoWrite(path: string, offset: number, length: number): void {
  qemuIo(path, 'raw', `write -P 0x5a ${offset} ${length}`);
}

const content = (): Buffer => readFileSync(disk);

describe('a new file', () => {
  it('is as sparse as the disk was, down to the block of the file system', async () => {
    const sparse = user.path('sparse.img');
    writeFileSync(sparse, '');
    truncateSync(sparse, 256 * MIB);
    for (let at = 0; at < 64; at += 1) qemuIoWrite(sparse, at * 4 * MIB + 8192, 4096);
    const { backup_id: id } = await user.backup(sparse, 'sparse');
    const target = user.path('sparse-again.img');
    await user.json('restore', id, target);
    expect(readFileSync(target).equals(readFileSync(sparse))).toBe(true);
    expect(statSync(target).blocks * 512).toBeLessThanOrEqual(2 * statSync(sparse).blocks * 512);
    rmSync(target);
    rmSync(sparse);
  });
});

describe('a file that is there', () => {
  it('keeps its mode and its owner when it is replaced with --force', async () => {
    const target = user.path('owned.img');
    writeFileSync(target, 'old');
    chmodSync(target, 0o664);
    if (isRoot) chownSync(target, 65_534, 65_534);
    const before = statSync(target);
    await user.json('restore', backup, target, '--force');
    expect(readFileSync(target).equals(content())).toBe(true);
    const { mode, uid, gid } = statSync(target);
    expect({ mode, uid, gid }).toEqual({ mode: before.mode, uid: before.uid, gid: before.gid });
    rmSync(target);
  });

  it('is replaced behind a link; the link stays', async () => {
    writeFileSync(user.path('behind.img'), 'old');
    symlinkSync('behind.img', user.path('link.img'));
    await user.refused('TARGET_EXISTS', 'restore', backup, user.path('link.img'));
    await user.json('restore', backup, user.path('link.img'), '--force');
    expect(lstatSync(user.path('link.img')).isSymbolicLink()).toBe(true);
    expect(readFileSync(user.path('behind.img')).equals(content())).toBe(true);
    rmSync(user.path('link.img'));
    rmSync(user.path('behind.img'));
  });

  it('is refused where a link leads nowhere', async () => {
    symlinkSync('/nowhere/at/all', user.path('dangling.img'));
    const before = user.files();
    await user.refused('TARGET_INVALID', 'restore', backup, user.path('dangling.img'));
    await user.refused('TARGET_INVALID', 'restore', backup, user.path('dangling.img'), '--force');
    expect(user.files()).toEqual(before);
    rmSync(user.path('dangling.img'));
  });

  it('is never one of a repository, not even with --force', async () => {
    const before = user.files();
    const image = user.image(backup);
    for (const target of [
      image,
      user.path('home/repositories/default/new.img'),
      user.path('home/repositories/default/chainkeep-repository.json'),
    ]) {
      const refused = await user.refused('TARGET_INVALID', 'restore', backup, target, '--force');
      expect(refused.error).toContain('default');
    }
    symlinkSync(image, user.path('sly.img'));
    await user.refused('TARGET_INVALID', 'restore', backup, user.path('sly.img'), '--force');
    rmSync(user.path('sly.img'));
    expect(user.files()).toEqual(before);
    await user.verifyAll();
  });

  it('is never an image that a running VM writes to', async () => {
    const target = user.path('running.qcow2');
    qemuImg('create', '-f', 'qcow2', target, '4M');
    const vm = await startQemuIo(target, 'qcow2');
    const refused = await user.refused('TARGET_INVALID', 'restore', backup, target, '--force');
    expect(refused.error).toContain('running VM');
    await vm.stop();
    await user.json('restore', backup, target, '--force');
    rmSync(target);
  });
});

describe('what is no target', () => {
  it('is refused with advice: folders, pipes, a folder that does not exist', async () => {
    mkdirSync(user.path('folder'));
    tool('mkfifo', user.path('pipe'));
    const before = user.files();
    for (const target of ['folder', 'folder/', 'pipe', '/dev/null', 'nowhere/disk.img', 'new-folder/', 'disk.img/x']) {
      await user.refused('TARGET_INVALID', 'restore', backup, target);
      await user.refused('TARGET_INVALID', 'restore', backup, target, '--force');
    }
    await user.refused('USAGE', 'restore', backup, '');
    await user.refused('TARGET_INVALID', 'restore', backup, user.path('n'.repeat(300)));
    expect(user.files()).toEqual(before);
  });

  it('is a file system without room: both numbers, and the room is given back', async (context) => {
    const small = mountTmpfs('size=1M');
    if (typeof small === 'string') return context.skip(small);
    try {
      const refused = await user.refused('INSUFFICIENT_STORAGE', 'restore', backup, `${small.path}/disk.img`);
      expect(refused).toMatchObject({ required_bytes: expect.any(Number), available_bytes: expect.any(Number) });
      expect(refused.error).toContain(String(refused.required_bytes));
      expect(refused.error).toContain(String(refused.available_bytes));
      expect(tool('ls', '-A', small.path)).toBe('');
      const [job] = await user.jobs('--status', 'failed');
      expect(job).toMatchObject({ job_type: 'restore', metadata: { error_code: 'INSUFFICIENT_STORAGE' } });
      small.remount('size=8M');
      await user.json('restore', backup, `${small.path}/disk.img`);
      expect(readFileSync(`${small.path}/disk.img`).equals(content())).toBe(true);
    } finally {
      small.dispose();
    }
  });

  it.runIf(isRoot)('is a folder of somebody else', async () => {
    mkdirSync(user.path('theirs'), { mode: 0o755 });
    const other = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
    for (const folder of ['', 'home', 'home/repositories']) chmodSync(user.path(folder), 0o755);
    const refused = await user.refusedAs(other, 'CATALOG_FAILED', 'list');
    expect(refused.advice).toMatch(/belongs to|owner|user/);
    for (const folder of ['home', 'home/repositories']) chmodSync(user.path(folder), 0o700);
  });
});

describe('a block device', () => {
  it('needs --force and room, gets every zero, and keeps what lies behind the disk', async (context) => {
    const file = user.path('device.bin');
    const size = content().length;
    writeFileSync(file, Buffer.alloc(8 * MIB, 0xaa));
    const device = attachLoop(file);
    if (typeof device === 'string') return context.skip(device);
    try {
      await user.refused('TARGET_EXISTS', 'restore', backup, device.path);
      const qcow2 = await user.refused('TARGET_INVALID', 'restore', backup, device.path, '--force', '--format', 'qcow2');
      expect(qcow2.advice).toContain('raw');
      expect(readFileSync(file).equals(Buffer.alloc(8 * MIB, 0xaa))).toBe(true);

      await user.json('restore', backup, device.path, '--force');
      tool('blockdev', '--flushbufs', device.path);
      const written = readFileSync(file);
      expect(written.subarray(0, size).equals(content())).toBe(true);
      expect(written.subarray(size).equals(Buffer.alloc(8 * MIB - size, 0xaa))).toBe(true);

      truncateSync(file, 2 * MIB);
      device.resize();
      const small = await user.refused('TARGET_TOO_SMALL', 'restore', backup, device.path, '--force');
      expect(small).toMatchObject({ required_bytes: size, available_bytes: 2 * MIB });
    } finally {
      device.detach();
      rmSync(file);
    }
  });

  it('is refused while it is mounted or a VM writes to it', async (context) => {
    const file = user.path('mounted.bin');
    writeFileSync(file, Buffer.alloc(8 * MIB));
    const device = attachLoop(file);
    if (typeof device === 'string') return context.skip(device);
    try {
      tool('mkfs.ext4', '-q', device.path);
      mkdirSync(user.path('mnt'));
      tool('mount', device.path, user.path('mnt'));
      try {
        const refused = await user.refused('TARGET_INVALID', 'restore', backup, device.path, '--force');
        expect(refused.advice).toContain('unmount');
      } finally {
        tool('umount', user.path('mnt'));
      }
      const vm = await startQemuIo(device.path, 'raw');
      expect((await user.refused('TARGET_INVALID', 'restore', backup, device.path, '--force')).error).toContain('running VM');
      await vm.stop();
      tool('e2fsck', '-fn', device.path);
    } finally {
      device.detach();
      rmSync(file);
      qemuIo(disk, 'raw', 'read 0 1');
    }
  });
});
