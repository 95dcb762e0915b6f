// Disks over NBD as a user backs them up and restores them, with 'qemu-nbd' and 'nbdkit' on the other side.

import { appendFileSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type Peer, peerFolder, startServer } from '../nbd/nbd-peers.ts';
import { noise, qemuImg, qemuIo, refusal, sharedScratchHome } from './scratch-home.ts';

const MIB = 1 << 20;
const user = sharedScratchHome();
const scratch = peerFolder();
const disk = user.path('disk.img');
let served = 0;

async function serve(tool: 'qemu-nbd' | 'nbdkit', ...args: readonly string[]): Promise<Peer> {
  served += 1;
  const peer = await startServer(scratch(`s${served}`), tool, args);
  onTestFinished(() => peer.stop());
  return peer;
}

const serveRaw = (path: string, ...more: readonly string[]): Promise<Peer> => serve('qemu-nbd', '-f', 'raw', '-x', 'disk', ...more, path);

beforeAll(() => {
  // With a hole of 9 MiB.
  writeFileSync(disk, noise(3 * MIB, 1));
  truncateSync(disk, 12 * MIB);
  appendFileSync(disk, noise(4 * MIB + 512, 2));
});

async function restored(id: string): Promise<Buffer> {
  const target = user.path(`back-${id}.img`);
  await user.json('restore', id, target);
  return readFileSync(target);
}

describe('an export as a source', () => {
  it('is backed up in full, and then what differs; only what is not zero is read', async () => {
    const source = await serveRaw(disk, '-r', '-e', '4');
    const full = await user.backup(source.address('disk'), 'over-nbd', '--compression', 'none');
    expect(full).toMatchObject({ backup_type: 'full', total_bytes: 16 * MIB + 512 });
    expect(full.bytes_read).toBeLessThanOrEqual(8 * MIB);
    expect((await restored(full.backup_id)).equals(readFileSync(disk))).toBe(true);
    await source.stop();
    qemuIo(disk, 'raw', 'write -P 7 5M 128k');
    const again = await serveRaw(disk, '-r');
    const child = await user.backup(again.address('disk'), 'over-nbd');
    expect(child.backup_type).toBe('incremental');
    expect(child.bytes_written).toBeLessThan(MIB);
    expect((await restored(child.backup_id)).equals(readFileSync(disk))).toBe(true);
    expect(JSON.parse(readFileSync(user.image(child.backup_id).replace(/qcow2$/, 'json'), 'utf8'))).toMatchObject({ source: 'nbd' });
    expect(await user.json('verify', '--vm', 'over-nbd')).toMatchObject({ damaged: [] });
  });

  it('that ends and begins anew in the middle ends the backup: it may be the disk of another moment', async () => {
    const slow = await startServer(scratch('same'), 'nbdkit', ['-r', '--filter=delay', 'file', disk, 'rdelay=1']);
    const run = user.start('backup', slow.address(), '--vm', 'mixed', '--json');
    await user.appears('**/*.qcow2.tmp-*');
    await slow.stop();
    const other = await startServer(scratch('same'), 'nbdkit', ['-r', 'pattern', '16M']);
    onTestFinished(() => other.stop());
    refusal(await run.ended, 'CONNECTION_FAILED');
    expect((await user.list('--vm', 'mixed')).map(({ status }) => status)).toEqual(['failed']);
  });

  it('of a QCOW2 image behind qemu-nbd is the disk in it', async () => {
    const image = user.path('image.qcow2');
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', '-c', disk, image);
    const source = await serve('qemu-nbd', '-r', '-f', 'qcow2', image);
    const { backup_id: id } = await user.backup(source.address(), 'image-over-nbd');
    expect((await restored(id)).equals(readFileSync(disk))).toBe(true);
    await user.refused('SOURCE_INVALID', 'backup', source.address(), '--vm', 'new', '--format', 'qcow2');
  });

  it('that can be written to, or tells nothing of zeros, is backed up with a notice', async () => {
    const source = await serve('nbdkit', '--no-sr', 'file', disk);
    const run = await user.run('backup', source.address(), '--vm', 'told-nothing');
    expect(run.code, run.stderr).toBe(0);
    expect(run.stderr).toMatch(/can be written to/);
    expect(run.stderr).toMatch(/all of it is read/);
  });

  it('that fails, or goes away for good, leaves no backup', async () => {
    const failing = await serve('nbdkit', '--filter=error', 'pattern', '12M', 'error-pread-rate=100%');
    await user.refused('SOURCE_UNREADABLE', 'backup', failing.address(), '--vm', 'failing');
    const slow = await serve('nbdkit', '--no-sr', '--filter=delay', 'memory', '64M', 'rdelay=200ms');
    const running = user.start('backup', slow.address(), '--vm', 'gone', '--json');
    await running.said('all of it is read');
    running.kill('SIGINT');
    refusal(await running.ended, 'CANCELLED');
    await user.refused('EXPORT_NOT_FOUND', 'backup', (await serveRaw(disk, '-r')).address('other'), '--vm', 'none');
    const { vms } = await user.json<{ readonly vms: readonly { readonly name: string }[] }>('vms');
    expect(vms.filter(({ name }) => ['failing', 'gone', 'none'].includes(name))).toEqual([]);
  });
});

describe('an export as a target', () => {
  it('gets the disk, zeros over what it held, and keeps what lies behind', async () => {
    const { backup_id: id } = await user.backup(disk, 'to-nbd');
    const target = user.path('target.img');
    writeFileSync(target, Buffer.alloc(20 * MIB, 0xee));
    const peer = await serveRaw(target);
    await user.refused('TARGET_EXISTS', 'restore', id, peer.address('disk'));
    await user.refused('TARGET_INVALID', 'restore', id, peer.address('disk'), '--force', '--format', 'qcow2');
    expect(await user.json('restore', id, peer.address('disk'), '--force')).toMatchObject({ success: true, target: peer.address('disk') });
    await peer.stop();
    const bytes = readFileSync(target);
    expect(bytes.subarray(0, statSync(disk).size).equals(readFileSync(disk))).toBe(true);
    expect(bytes.subarray(statSync(disk).size).every((byte) => byte === 0xee)).toBe(true);
  });

  it('is refused when it is too small or read-only, and called unusable when it broke off', async () => {
    const { backup_id: id } = await user.backup(disk, 'to-nbd');
    const target = user.path('small.img');
    writeFileSync(target, '');
    truncateSync(target, 16 * MIB);
    await user.refused('TARGET_TOO_SMALL', 'restore', id, (await serveRaw(target)).address('disk'), '--force');
    truncateSync(target, 17 * MIB);
    await user.refused('EXPORT_REFUSED', 'restore', id, (await serveRaw(target, '-r')).address('disk'), '--force');
    const full = await serve('nbdkit', '--filter=error', 'memory', '17M', 'error-pwrite=ENOSPC', 'error-pwrite-rate=100%');
    expect((await user.refused('INSUFFICIENT_STORAGE', 'restore', id, full.address(), '--force')).error).toContain('unusable');
  });
});
