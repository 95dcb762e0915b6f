// Our client against the servers that others use: 'qemu-nbd' with bitmaps, and 'nbdkit' with what its filters do to a disk.

import { randomBytes } from 'node:crypto';
import { truncateSync, writeFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import type { DiskReader } from '../../src/disk/disk-reader.ts';
import { listNbdExports, readNbdInfo } from '../../src/nbd/client/nbd-info.ts';
import { openNbdReader } from '../../src/nbd/client/nbd-reader.ts';
import { openNbdWriter } from '../../src/nbd/client/nbd-writer.ts';
import { type Peer, peerFolder, runTool, startServer } from './nbd-peers.ts';

const MIB = 1 << 20;
const scratch = peerFolder();
let number = 0;
const peers: Peer[] = [];

afterEach(async () => {
  await Promise.all(peers.splice(0).map((peer) => peer.stop()));
});

async function start(tool: 'qemu-nbd' | 'nbdkit', ...args: string[]): Promise<Peer> {
  const peer = await startServer(scratch(`${number++}.sock`), tool, args);
  peers.push(peer);
  return peer;
}

async function readWhole(disk: DiskReader): Promise<Buffer> {
  const bytes = Buffer.alloc(disk.size, 0xdd);
  await disk.read(bytes, 0);
  return bytes;
}

async function kinds(disk: DiskReader, offset = 0, length = disk.size - offset): Promise<string[]> {
  const found: string[] = [];
  for await (const extent of disk.extents({ offset, length })) found.push(`${extent.kind} ${extent.offset} ${extent.length}`);
  return found;
}

describe('qemu-nbd', () => {
  it('gives a raw file: facts, extents, bytes', async () => {
    const path = scratch('disk.raw');
    const data = randomBytes(3 * MIB);
    writeFileSync(path, data);
    truncateSync(path, 16 * MIB);
    const peer = await start('qemu-nbd', '-r', '-e', '8', '-f', 'raw', '-x', 'disk', '-D', 'the description', path);
    const info = await readNbdInfo(peer.address('disk'));
    expect(info).toMatchObject({
      headers: 'structured',
      contexts: ['base:allocation'],
      facts: { size: 16 * MIB, description: 'the description' },
    });
    expect(await listNbdExports(peer.address())).toEqual([{ name: 'disk', description: 'the description' }]);
    const disk = await openNbdReader(peer.address('disk'));
    expect(await kinds(disk)).toEqual([`data 0 ${3 * MIB}`, `zero ${3 * MIB} ${13 * MIB}`]);
    expect(await kinds(disk, 100, 200)).toEqual(['data 100 200']);
    expect((await readWhole(disk)).equals(Buffer.concat([data, Buffer.alloc(13 * MIB)]))).toBe(true);
    await disk.close();
  });

  it('gives its dirty bitmaps and the depth of allocation', async () => {
    const path = scratch('disk.qcow2');
    await runTool('qemu-img', 'create', '-q', '-f', 'qcow2', path, '64M');
    await runTool('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 0 2M', path);
    await runTool('qemu-img', 'bitmap', '--add', '-g', '65536', path, 'day');
    await runTool('qemu-io', '-f', 'qcow2', '-c', 'write -P 2 1M 64k', '-c', 'write -P 3 32M 128k', path);
    const peer = await start('qemu-nbd', '-r', '-A', '-B', 'day', '-f', 'qcow2', '-x', 'disk', path);
    const day = 'qemu:dirty-bitmap:day';
    const disk = await openNbdReader(peer.address('disk'), { contexts: [day, 'qemu:dirty-bitmap:none', 'qemu:allocation-depth'] });
    expect(disk.contexts.toSorted()).toEqual(['base:allocation', 'qemu:allocation-depth', day]);
    const dirty: string[] = [];
    for await (const { offset, length, flags } of disk.ranges(day, { offset: 0, length: disk.size }))
      if (flags === 1) dirty.push(`${offset} ${length}`);
    expect(dirty).toEqual([`${MIB} 65536`, `${32 * MIB} 131072`]);
    await expect(async () => {
      for await (const range of disk.ranges('qemu:dirty-bitmap:none', { offset: 0, length: 1 })) expect(range).toBeUndefined();
    }).rejects.toMatchObject({ code: 'NOT_SUPPORTED' });
    await disk.close();
  });

  it('refuses what is not there, and writes to what is read-only', async () => {
    const path = scratch('ro.raw');
    writeFileSync(path, Buffer.alloc(4096));
    const peer = await start('qemu-nbd', '-r', '-e', '4', '-f', 'raw', '-x', 'disk', path);
    await expect(openNbdReader(peer.address('other'))).rejects.toMatchObject({ code: 'EXPORT_NOT_FOUND' });
    await expect(openNbdWriter(peer.address('disk'), { size: 4096 })).rejects.toMatchObject({ code: 'EXPORT_REFUSED' });
    await expect(openNbdReader(peer.address('disk').replace('nbd+', 'nbds+'))).rejects.toMatchObject({ code: 'EXPORT_REFUSED' });
  });

  it('takes data, zeros and trims', async () => {
    const path = scratch('rw.qcow2');
    await runTool('qemu-img', 'create', '-q', '-f', 'qcow2', path, '32M');
    const peer = await start('qemu-nbd', '--discard=unmap', '-e', '4', '-f', 'qcow2', path);
    const writer = await openNbdWriter(peer.address(), { size: 32 * MIB });
    const data = randomBytes(5 * MIB + 123);
    await writer.write(data, 777);
    await writer.zero(2 * MIB, MIB);
    await writer.trim(20 * MIB, MIB);
    await writer.finish();
    const expected = Buffer.alloc(32 * MIB);
    data.copy(expected, 777);
    expected.fill(0, 2 * MIB, 3 * MIB);
    const disk = await openNbdReader(peer.address());
    expect((await readWhole(disk)).equals(expected)).toBe(true);
    await disk.close();
    await expect(openNbdWriter(peer.address(), { size: 33 * MIB })).rejects.toMatchObject({ code: 'TARGET_TOO_SMALL' });
  });
});

describe('nbdkit', () => {
  it('sparse-random is read, and what is written is the same to the last byte', async () => {
    const plugin = ['sparse-random', 'size=64M', 'seed=7', 'percent=20'];
    const source = await start('nbdkit', ...plugin);
    const target = await start('nbdkit', '--filter=checkwrite', ...plugin);
    const disk = await openNbdReader(source.address());
    const writer = await openNbdWriter(target.address(), { size: disk.size });
    let zeros = 0;
    for await (const { offset, length, kind } of disk.extents({ offset: 0, length: disk.size })) {
      if (kind !== 'data') {
        zeros += length;
        await writer.zero(offset, length);
        continue;
      }
      const bytes = Buffer.alloc(length);
      await disk.read(bytes, offset);
      await writer.write(bytes, offset);
    }
    expect(zeros).toBeGreaterThan(32 * MIB);
    await writer.finish();
    await disk.close();
    const wrong = await openNbdWriter(target.address(), { size: disk.size });
    await expect(wrong.write(Buffer.alloc(512, 1), 1000)).rejects.toMatchObject({ code: 'TARGET_FAILED' });
    await wrong.abort();
  });

  it.each([512, 4096, 65_536])('demands blocks of %i bytes, and gets no other request', async (minimum) => {
    const policy = [
      '--filter=blocksize-policy',
      'blocksize-error-policy=error',
      `blocksize-minimum=${minimum}`,
      `blocksize-preferred=${minimum}`,
      'blocksize-maximum=1M',
    ];
    const peer = await start('nbdkit', ...policy.slice(0, 1), 'memory', '4M', ...policy.slice(1));
    const expected = randomBytes(4 * MIB);
    const writer = await openNbdWriter(peer.address(), { size: 4 * MIB });
    await writer.write(expected, 0);
    const piece = randomBytes(3 * 65_536 + 17);
    await Promise.all([writer.write(piece, 65_536 - 5), writer.write(piece.subarray(0, 3), 12), writer.write(piece.subarray(3, 9), 20)]);
    piece.copy(expected, 65_536 - 5);
    piece.copy(expected, 12, 0, 3);
    piece.copy(expected, 20, 3, 9);
    await writer.zero(2 * MIB - 100, 70_000);
    expected.fill(0, 2 * MIB - 100, 2 * MIB - 100 + 70_000);
    await writer.finish();
    const disk = await openNbdReader(peer.address());
    expect(disk.facts.blockSize.minimum).toBe(minimum);
    expect((await readWhole(disk)).equals(expected)).toBe(true);
    const odd = Buffer.alloc(100_001);
    await disk.read(odd, 333);
    expect(odd.equals(expected.subarray(333, 100_334))).toBe(true);
    for (const [offset, length] of [
      [1, 1],
      [65_535, 2],
      [100, 3 * MIB],
    ] as const) {
      const found = await kinds(disk, offset, length);
      expect(found.reduce((sum, line) => sum + Number(line.split(' ')[2]), 0)).toBe(length);
    }
    await disk.close();
  });

  it.each([
    ['without extents', ['--filter=noextents', 'memory', '1M'], ['data 0 1048576']],
    ['without structured replies', ['--no-sr', 'memory', '1M'], ['data 0 1048576']],
    ['with all of it a hole', ['memory', '1M'], ['zero 0 1048576']],
    [
      'with holes that do not read as zeros',
      [
        'eval',
        'get_size=echo 4096',
        'pread=head -c $3 /dev/zero',
        'can_extents=exit 0',
        'extents=echo 0 1024 hole; echo 1024 1024 zero; echo 2048 2048',
      ],
      ['data 0 1024', 'zero 1024 1024', 'data 2048 2048'],
    ],
    [
      'with a stretch at a time',
      ['eval', 'get_size=echo 4096', 'pread=head -c $3 /dev/zero', 'can_extents=exit 0', 'extents=echo $4 512 hole,zero'],
      ['zero 0 4096'],
    ],
  ])('%s', async (_name, args, expected) => {
    const disk = await openNbdReader((await start('nbdkit', ...args)).address());
    expect(await kinds(disk)).toEqual(expected);
    expect((await readWhole(disk)).every((byte) => byte === 0)).toBe(true);
    await disk.close();
  });

  it('whose disk fails is not read as anything else', async () => {
    const peer = await start('nbdkit', '--filter=noextents', '--filter=error', 'pattern', '4M', 'error-pread=EIO', 'error-pread-rate=30%');
    const disk = await openNbdReader(peer.address());
    const expected = Buffer.alloc(4 * MIB);
    for (let at = 0; at < expected.length; at += 8) expected.writeBigUInt64BE(BigInt(at), at);
    let failed = 0;
    for (let at = 0; at < 64; at++) {
      const bytes = Buffer.alloc(65_536);
      try {
        await disk.read(bytes, at * 65_536);
        expect(bytes.equals(expected.subarray(at * 65_536, (at + 1) * 65_536))).toBe(true);
      } catch (error) {
        expect(error).toMatchObject({ code: 'SOURCE_UNREADABLE', context: { nbd_error: 'EIO' } });
        failed++;
      }
    }
    expect(failed).toBeGreaterThan(0);
    await disk.close();
  });

  it('that is full says so, one that cannot zero gets data', async () => {
    const full = await start(
      'nbdkit',
      'eval',
      'get_size=echo 1M',
      'pread=head -c $3 /dev/zero',
      'can_write=exit 0',
      'pwrite=cat >/dev/null; echo ENOSPC no room >&2; exit 1',
    );
    const writer = await openNbdWriter(full.address(), { size: MIB });
    await expect(writer.write(Buffer.alloc(512, 1), 0)).rejects.toMatchObject({ code: 'INSUFFICIENT_STORAGE' });
    await writer.abort();
    const plain = await start('nbdkit', '--filter=nozero', '--filter=noextents', 'memory', '4M', 'zeromode=none');
    const other = await openNbdWriter(plain.address(), { size: 4 * MIB });
    await other.write(Buffer.alloc(4 * MIB, 9), 0);
    await other.zero(100, 3 * MIB);
    await other.finish();
    const disk = await openNbdReader(plain.address());
    const bytes = await readWhole(disk);
    expect(bytes.subarray(100, 100 + 3 * MIB).every((byte) => byte === 0)).toBe(true);
    expect(bytes[99]).toBe(9);
    expect(bytes[100 + 3 * MIB]).toBe(9);
    await disk.close();
  });

  it('that is slow is read by many requests at a time', async () => {
    const peer = await start(
      'nbdkit',
      '--filter=delay',
      '--filter=multi-conn',
      'pattern',
      '32M',
      'delay-read=100ms',
      'multi-conn-mode=auto',
    );
    const disk = await openNbdReader(peer.address(), { connections: 4 });
    const began = performance.now();
    await readWhole(disk);
    // One after another they would take 3.2 seconds.
    expect(performance.now() - began).toBeLessThan(2500);
    await disk.close();
  });

  it('of the old style, or without the fixed newstyle, is refused', async () => {
    await expect(openNbdReader((await start('nbdkit', '-o', 'null', '1M')).address())).rejects.toMatchObject({ code: 'NBD_PROTOCOL' });
    await expect(openNbdReader((await start('nbdkit', '--mask-handshake=0', 'null', '1M')).address())).rejects.toMatchObject({
      code: 'NBD_PROTOCOL',
    });
  });

  it('that comes back is read on; one that comes back with another disk is not', async () => {
    const socket = scratch('back.sock');
    const first = await startServer(socket, 'nbdkit', ['pattern', '8M']);
    const disk = await openNbdReader(first.address(), { connections: 2, reconnectWithin: 20_000 });
    const before = Buffer.alloc(MIB);
    await disk.read(before, 0);
    await first.stop();
    const waiting = disk.read(Buffer.alloc(MIB), MIB);
    const second = await startServer(socket, 'nbdkit', ['pattern', '8M']);
    await waiting;
    const again = Buffer.alloc(MIB);
    await disk.read(again, 0);
    expect(again.equals(before)).toBe(true);
    await second.stop();
    const third = await startServer(socket, 'nbdkit', ['pattern', '9M']);
    await expect(disk.read(again, 0)).rejects.toMatchObject({ code: 'SOURCE_CHANGED' });
    await third.stop();
    await disk.close();
  });
});
