import { execFileSync } from 'node:child_process';
import { accessSync, constants, mkdirSync, mkdtempSync, readSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openFileSource } from '../../src/plumbing/file-source.ts';

const folder = mkdtempSync(join(tmpdir(), 'chainkeep-source-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const path = (name: string): string => join(folder, name);

describe('openFileSource', () => {
  it('reads any piece of a file, also by its descriptor', async () => {
    const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, index) => (index * 7) % 251));
    writeFileSync(path('disk'), bytes);
    const source = await openFileSource(path('disk'));
    expect(source).toMatchObject({ size: 100_000, name: path('disk') });
    const piece = Buffer.alloc(70_000);
    await source.read(piece, 12_345);
    expect(piece.equals(bytes.subarray(12_345, 82_345))).toBe(true);
    await source.read(new Uint8Array(0), 100_000);
    const same = Buffer.alloc(70_000);
    expect(readSync(source.fd ?? -1, same, 0, same.length, 12_345)).toBe(70_000);
    expect(same.equals(piece)).toBe(true);
    await source.close();
    await source.close();
  });

  it('follows a link, which is how disks are named', async () => {
    writeFileSync(path('target'), 'abc');
    symlinkSync(path('target'), path('link'));
    const source = await openFileSource(path('link'));
    expect(source.size).toBe(3);
    await source.close();
  });

  it('never gives a part of what was asked for', async () => {
    writeFileSync(path('short'), Buffer.alloc(1000));
    const source = await openFileSource(path('short'));
    await expect(source.read(new Uint8Array(10), 995)).rejects.toMatchObject({ code: 'SOURCE_CHANGED' });
    truncateSync(path('short'), 500);
    await expect(source.read(new Uint8Array(600), 0)).rejects.toMatchObject({
      code: 'SOURCE_CHANGED',
      context: { offset: 500, size: 1000 },
    });
    await source.close();
  });

  it('refuses to read once it is closed', async () => {
    writeFileSync(path('closed'), 'abc');
    const source = await openFileSource(path('closed'));
    await source.close();
    await expect(source.read(new Uint8Array(1), 0)).rejects.toMatchObject({ code: 'INTERNAL' });
  });

  it('says what is missing or no disk, and waits for nothing', async () => {
    await expect(openFileSource(path('nothing'))).rejects.toMatchObject({ code: 'SOURCE_NOT_FOUND', context: { path: path('nothing') } });
    await expect(openFileSource(join(path('disk'), 'in-a-file'))).rejects.toMatchObject({ code: 'SOURCE_NOT_FOUND' });
    mkdirSync(path('folder'));
    await expect(openFileSource(path('folder'))).rejects.toMatchObject({ code: 'SOURCE_INVALID' });
    execFileSync('mkfifo', [path('pipe')]);
    await expect(openFileSource(path('pipe'))).rejects.toMatchObject({ code: 'SOURCE_INVALID' });
    await expect(openFileSource('/dev/null')).rejects.toMatchObject({ code: 'SOURCE_INVALID' });
    const server = createServer().listen(path('socket'));
    await new Promise((resolve) => server.once('listening', resolve));
    await expect(openFileSource(path('socket'))).rejects.toMatchObject({ code: 'SOURCE_INVALID' });
    server.close();
  });

  it.runIf(canLoop())('finds the size of a block device', async () => {
    writeFileSync(path('backing'), Buffer.alloc(1_234_432, 5));
    const device = execFileSync('losetup', ['--find', '--show', '--read-only', path('backing')], {
      encoding: 'utf8',
      timeout: 10_000,
    }).trim();
    try {
      const source = await openFileSource(device);
      expect(source.size).toBe(1_234_432);
      const last = Buffer.alloc(512);
      await source.read(last, 1_234_432 - 512);
      expect(last.equals(Buffer.alloc(512, 5))).toBe(true);
      await source.close();
    } finally {
      execFileSync('losetup', ['--detach', device], { timeout: 10_000 });
    }
  });
});

function canLoop(): boolean {
  try {
    accessSync('/dev/loop-control', constants.W_OK);
    execFileSync('losetup', ['--find'], { stdio: 'pipe', timeout: 10_000 });
    return true;
  } catch {
    return false; // no loop devices here, or not for this user
  }
}
