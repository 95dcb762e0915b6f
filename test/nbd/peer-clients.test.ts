// Our server against the clients that others use: 'nbdinfo', 'nbdcopy', 'qemu-img' and 'qemu-io', reading and writing.

import { randomBytes } from 'node:crypto';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { overlay } from '../../src/disk/overlay.ts';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { type NbdServer, openNbdServer } from '../../src/nbd/server/nbd-server.ts';
import { openFileSource } from '../../src/plumbing/file-source.ts';
import { openImageFile } from '../../src/qcow2/open-image-file.ts';
import { peerFolder, runTool } from './nbd-peers.ts';
import { memoryDisk } from './served-disk.ts';

const MIB = 1 << 20;
const scratch = peerFolder();
const writable = memoryDisk(16 * MIB);
const address = (name: string): string => `nbd+unix:///${name}?socket=${scratch('s')}`;
let server: NbdServer;

beforeAll(async () => {
  const raw = scratch('disk.raw');
  writeFileSync(raw, randomBytes(5 * MIB));
  truncateSync(raw, 40 * MIB + 512);
  await runTool('qemu-img', 'create', '-q', '-f', 'qcow2', scratch('base.qcow2'), '40M');
  await runTool('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 0 3M', '-c', 'write -P 2 20M 1M', scratch('base.qcow2'));
  await runTool('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', 'base.qcow2', scratch('top.qcow2'));
  await runTool('qemu-io', '-f', 'qcow2', '-c', 'write -P 5 1M 128k', '-c', 'write -z 20M 512k', scratch('top.qcow2'));
  const dirty = {
    name: 'qemu:dirty-bitmap:day',
    async *ranges({ offset, length }: { offset: number; length: number }) {
      for (let at = offset; at < offset + length; at = Math.floor(at / MIB) * MIB + MIB) {
        const end = Math.min(offset + length, Math.floor(at / MIB) * MIB + MIB);
        yield { offset: at, length: end - at, flags: Math.floor(at / MIB) % 2 };
      }
    },
  };
  const exports = [
    { name: 'raw', description: 'a raw disk', disk: openRawReader(await openFileSource(raw)) },
    { name: 'chain', disk: overlay((await openImageFile(scratch('top.qcow2'), 'qcow2', 'same-folder')).layers) },
    { name: 'rw', disk: writable, changes: writable },
    { name: 'bitmap', disk: memoryDisk(8 * MIB), contexts: [dirty] },
  ];
  server = await openNbdServer({ listen: { kind: 'unix', path: scratch('s') }, exports, listing: true });
});
afterAll(() => server.close());

describe('nbdinfo', () => {
  it('shows an export', async () => {
    const { stdout } = await runTool('nbdinfo', '--json', address('raw'));
    expect(JSON.parse(stdout)).toMatchObject({
      structured: true,
      exports: [
        {
          'export-name': 'raw',
          description: 'a raw disk',
          'export-size': 40 * MIB + 512,
          is_read_only: true,
          can_multi_conn: true,
          can_df: true,
          contexts: ['base:allocation'],
          block_size_maximum: 32 * MIB,
        },
      ],
    });
    const writes = await runTool('nbdinfo', '--json', address('rw'));
    expect(JSON.parse(writes.stdout)).toMatchObject({
      exports: [{ is_read_only: false, can_flush: true, can_fua: true, can_trim: true, can_zero: true }],
    });
  });

  it('maps it', async () => {
    const { stdout } = await runTool('nbdinfo', '--map', '--json', address('chain'));
    const map: { offset: number; length: number; type: number }[] = JSON.parse(stdout);
    expect(map.filter(({ type }) => type === 0).map(({ offset, length }) => [offset, length])).toEqual([
      [0, 3 * MIB],
      [20 * MIB + 512 * 1024, 512 * 1024],
    ]);
  });

  it('lists what may be listed, and names what is not there', async () => {
    const { stdout } = await runTool('nbdinfo', '--list', '--json', address(''));
    expect(JSON.parse(stdout).exports.map((one: Record<string, unknown>) => one['export-name'])).toEqual(['raw', 'chain', 'rw', 'bitmap']);
    expect((await runTool('nbdinfo', address('none'))).code).not.toBe(0);
  });

  it('shows a dirty bitmap', async () => {
    const { stdout } = await runTool('nbdinfo', '--map=qemu:dirty-bitmap:day', '--json', address('bitmap'));
    const map: { type: number }[] = JSON.parse(stdout);
    expect(map.map(({ type }) => type)).toEqual([0, 1, 0, 1, 0, 1, 0, 1]);
  });
});

describe('copies', () => {
  it.each([
    ['raw', 'raw', 'disk.raw'],
    ['chain', 'qcow2', 'top.qcow2'],
  ])('of %s are the same by qemu-img compare, nbdcopy and qemu-img convert', async (name, format, file) => {
    expect(await runTool('qemu-img', 'compare', '-f', format, '-F', 'raw', scratch(file), address(name))).toMatchObject({ code: 0 });
    expect(await runTool('nbdcopy', '--requests=64', address(name), scratch(`${name}.copy`))).toMatchObject({ code: 0, stderr: '' });
    expect(await runTool('qemu-img', 'compare', '-f', format, '-F', 'raw', scratch(file), scratch(`${name}.copy`))).toMatchObject({
      code: 0,
    });
    expect(
      await runTool('qemu-img', 'convert', '-W', '-m', '8', '-f', 'raw', '-O', 'qcow2', address(name), scratch(`${name}.qcow2`)),
    ).toMatchObject({ code: 0 });
    expect(await runTool('qemu-img', 'compare', '-f', format, '-F', 'qcow2', scratch(file), scratch(`${name}.qcow2`))).toMatchObject({
      code: 0,
    });
  });

  it('of a large request size come in pieces', async () => {
    expect(await runTool('nbdcopy', '--request-size=33554432', address('raw'), scratch('large.copy'))).toMatchObject({ code: 0 });
    expect(readFileSync(scratch('large.copy')).equals(readFileSync(scratch('disk.raw')))).toBe(true);
  });
});

describe('changes', () => {
  it('by qemu-io: data, zeros, discards, many at a time', async () => {
    const commands = [
      'write -P 7 1000 70000',
      'write -z 2M 1M',
      'aio_write -P 8 4M 2M',
      'aio_write -P 9 8M 3M',
      'aio_flush',
      'discard 12M 1M',
      'flush',
      'read -P 8 4M 2M',
      'read -P 7 1000 70000',
      'read -P 0 2M 1M',
    ];
    const run = await runTool('qemu-io', '-f', 'raw', ...commands.flatMap((command) => ['-c', command]), address('rw'));
    expect(run.stdout).not.toMatch(/fail|error/i);
    expect(run.code).toBe(0);
    expect(writable.bytes.subarray(8 * MIB, 11 * MIB).every((byte) => byte === 9)).toBe(true);
    expect(writable.log).toContain('flush');
    expect(writable.log.some((line) => line.startsWith('trim'))).toBe(true);
  });

  it('by nbdcopy and qemu-img: a whole disk', async () => {
    const bytes = Buffer.concat([randomBytes(3 * MIB), Buffer.alloc(10 * MIB), randomBytes(3 * MIB)]);
    writeFileSync(scratch('in.raw'), bytes);
    for (const [tool, args] of [
      ['nbdcopy', ['--flush', scratch('in.raw'), address('rw')]],
      ['qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', '-W', scratch('in.raw'), address('rw')]],
    ] as const) {
      writable.bytes.fill(0xee);
      expect(await runTool(tool, ...args)).toMatchObject({ code: 0 });
      expect(writable.bytes.equals(bytes), tool).toBe(true);
    }
  });

  it('are refused on what is read-only', async () => {
    const run = await runTool('qemu-io', '-f', 'raw', '-c', 'write 0 512', address('raw'));
    expect(run.code).not.toBe(0);
  });
});
