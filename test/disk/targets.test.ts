// Targets of a restore: new files, files that may be replaced, block devices (where the test may make one).

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createFileWriter } from '../../src/disk/file-writer.ts';
import { inspectTarget, openTarget, type TargetRequest } from '../../src/disk/open-target.ts';
import { openWriterSink } from '../../src/disk/writer-sink.ts';
import { isChainkeepError } from '../../src/plumbing/errors.ts';

const KIB = 1024;
const folders: string[] = [];
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'chainkeep-targets-'));
  folders.push(folder);
});
afterAll(() => {
  for (const path of folders) rmSync(path, { recursive: true, force: true });
});

const path = (name: string): string => join(folder, name);
const request = (name: string, more: Partial<TargetRequest> = {}): TargetRequest => ({
  path: path(name),
  format: 'raw',
  force: false,
  ...more,
});

async function codeOf(run: () => unknown): Promise<string> {
  try {
    await run();
    return 'done';
  } catch (error) {
    return isChainkeepError(error) ? error.code : String(error);
  }
}

describe('a new file', () => {
  it('appears whole when it is finished, for its owner alone, sparse where nothing was written', async () => {
    const partial: string[] = [];
    const writer = await openTarget(request('new'), 64 * 1024 * KIB, async (name) => {
      partial.push(name);
    });
    expect(writer.startsZero).toBe(true);
    await writer.write(Buffer.from('hello'), 1024 * KIB);
    await writer.zero(0, 4096);
    expect(readdirSync(folder)).toEqual(partial.map((name) => name.slice(folder.length + 1)));
    await writer.finish();
    await writer.abort(); // after the end it has nothing to give back
    expect(readdirSync(folder)).toEqual(['new']);
    const stat = statSync(path('new'));
    expect(stat.size).toBe(64 * 1024 * KIB);
    expect(stat.mode & 0o777).toBe(0o600);
    expect(stat.blocks * 512).toBeLessThan(1024 * KIB);
    expect(readFileSync(path('new')).toString('latin1', 1024 * KIB, 1024 * KIB + 5)).toBe('hello');
  });

  it('leaves nothing when it is given back', async () => {
    const writer = await openTarget(request('new'), 4096);
    await writer.write(Buffer.alloc(4096, 1), 0);
    await writer.abort();
    await writer.abort();
    expect(readdirSync(folder)).toEqual([]);
  });

  it('does not take a name that somebody else took meanwhile', async () => {
    const writer = await openTarget(request('new'), 4096);
    writeFileSync(path('new'), 'theirs');
    expect(await codeOf(() => writer.finish())).toBe('TARGET_EXISTS');
    await writer.abort();
    expect(readFileSync(path('new'), 'utf8')).toBe('theirs');
    expect(readdirSync(folder)).toEqual(['new']);
  });

  it('replaces a file only with force, and keeps the old one until the end', async () => {
    writeFileSync(path('old'), 'old content');
    expect(await codeOf(() => inspectTarget(request('old')))).toBe('TARGET_EXISTS');
    const writer = await openTarget(request('old', { force: true }), 16);
    await writer.write(Buffer.alloc(16, 65), 0);
    expect(readFileSync(path('old'), 'utf8')).toBe('old content');
    await writer.finish();
    expect(readFileSync(path('old'), 'utf8')).toBe('A'.repeat(16));
  });

  it('grows as it is written where it is an image', async () => {
    const writer = await openTarget(request('image', { format: 'qcow2' }), 1024 * KIB);
    await writer.write(Buffer.alloc(512, 1), 0);
    await writer.finish();
    expect(statSync(path('image')).size).toBe(512);
  });
});

describe('what cannot be a target', () => {
  it('is refused before anything is made', async () => {
    mkdirSync(path('folder'));
    symlinkSync(path('nowhere'), path('dangling'));
    const before = readdirSync(folder);
    const cases: readonly (readonly [TargetRequest, string])[] = [
      [request('folder', { force: true }), 'TARGET_INVALID'],
      [request('missing/new'), 'TARGET_INVALID'],
      [request('new/'), 'TARGET_INVALID'],
      [{ ...request('x'), path: '/dev/null', force: true }, 'TARGET_INVALID'],
      [request('a'.repeat(300)), 'TARGET_INVALID'],
      [{ ...request('x'), path: '/proc/new' }, 'TARGET_INVALID'],
    ];
    for (const [target, code] of cases) expect(await codeOf(() => openTarget(target, 4096)), target.path).toBe(code);
    expect(readdirSync(folder)).toEqual(before);
  });

  it('a full disk is told as such, and nothing is left', async () => {
    const writer = await createFileWriter(path('new'), { size: 0, replace: false });
    const full = Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
    expect(writer.explain(full)).toMatchObject({ code: 'INSUFFICIENT_STORAGE' });
    // An image that grows as it is written has the size of what did fit; the error tells what did not.
    const wanted = 2 ** 52;
    const message = expect.stringContaining(`the image needs at least ${wanted} bytes`);
    expect(writer.explain(full, wanted)).toMatchObject({ message, context: { required_bytes: wanted } });
    const { fail } = openWriterSink(writer, wanted).direct ?? {};
    expect(await fail?.(full)).toMatchObject({ message, context: { required_bytes: wanted } });
    expect(writer.explain(Object.assign(new Error('EIO'), { code: 'EIO' }))).toMatchObject({ code: 'TARGET_FAILED' });
    await writer.abort();
    expect(readdirSync(folder)).toEqual([]);
  });
});

function attachLoop(size: number): string | undefined {
  try {
    writeFileSync(path('backing'), '');
    truncateSync(path('backing'), size);
    return execFileSync('losetup', ['--find', '--show', path('backing')], { encoding: 'utf8', stdio: 'pipe', timeout: 10_000 }).trim();
  } catch {
    return undefined; // not root, or a machine without loop devices: the tests say that they were skipped
  }
}

describe('a block device', () => {
  let device: string | undefined;
  beforeEach(() => {
    device = attachLoop(1024 * KIB);
  });
  afterEach(() => {
    if (device) execFileSync('losetup', ['--detach', device], { timeout: 10_000 });
  });

  it('is written where force is given: data, and zeros over what was there', async (context) => {
    if (!device) return context.skip('no loop devices here');
    execFileSync('dd', ['if=/dev/urandom', `of=${device}`, 'bs=64k', 'count=16', 'conv=fsync'], { stdio: 'ignore', timeout: 10_000 });
    expect(await codeOf(() => inspectTarget({ path: device ?? '', format: 'raw', force: false }))).toBe('TARGET_EXISTS');
    expect(await codeOf(() => inspectTarget({ path: device ?? '', format: 'qcow2', force: true }))).toBe('TARGET_INVALID');
    const writer = await openTarget({ path: device, format: 'raw', force: true }, 1024 * KIB);
    expect(writer.startsZero).toBe(false);
    await writer.zero(0, 1024 * KIB);
    await writer.write(Buffer.alloc(4096, 7), 8192);
    await writer.finish();
    const bytes = readFileSync(device);
    expect(bytes.subarray(8192, 12_288).every((byte) => byte === 7)).toBe(true);
    expect(bytes.subarray(0, 8192).every((byte) => byte === 0) && bytes.subarray(12_288).every((byte) => byte === 0)).toBe(true);
  });

  it('is refused when it is too small, or mounted', async (context) => {
    if (!device) return context.skip('no loop devices here');
    const target = { path: device, format: 'raw', force: true } as const;
    expect(await codeOf(() => openTarget(target, 1024 * KIB + 1))).toBe('TARGET_TOO_SMALL');
    execFileSync('mkfs.ext4', ['-q', device], { stdio: 'ignore', timeout: 20_000 });
    mkdirSync(path('mounted'));
    execFileSync('mount', [device, path('mounted')], { timeout: 10_000 });
    try {
      expect(await codeOf(() => openTarget(target, 512))).toBe('TARGET_INVALID');
    } finally {
      execFileSync('umount', [path('mounted')], { timeout: 10_000 });
    }
  });

  it('is called unusable when writing to it fails', async (context) => {
    if (!device) return context.skip('no loop devices here');
    const writer = await openTarget({ path: device, format: 'raw', force: true }, 512);
    const failed = await writer.write(Buffer.alloc(512), 2048 * KIB).catch((error: unknown) => error);
    expect(failed).toMatchObject({ code: 'TARGET_FAILED', message: expect.stringContaining('is now unusable') });
    await writer.abort();
  });
});
