// A share is used only where it is mounted, and by a process of its own: mounts that are wrong, vanish or are covered, and processes that end.
// The mounts are tmpfs, which the system has mounted as far as the store knows.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BlobStore } from '../../src/store/blob-store.ts';
import { openStore } from '../../src/store/registry.ts';
import { codeOf, patternBytes, readBlob } from '../../src/store/testing/store-probe.ts';
import { listNames, writeBlob } from '../../src/store/trial.ts';
import { mountTmpfs, type TemporaryMount } from './temporary-mount.ts';

const SOURCE = 'tmpfs chainkeep-test';
let mount: TemporaryMount;
let store: BlobStore | undefined;

function settings(path: string, system = SOURCE): Readonly<Record<string, unknown>> {
  return { server: 'nas', export_path: '/backups', mount_point: path, system_mount: system, time_limit_seconds: 10 };
}

async function open(path = mount.path, system = SOURCE): Promise<BlobStore> {
  store = await openStore('nfs', settings(path, system), { create: false });
  return store;
}

async function refusal(path: string, system = SOURCE): Promise<string> {
  const error: unknown = await open(path, system).catch((caught: unknown) => caught);
  expect(error).toMatchObject({ code: 'REPOSITORY_OFFLINE', retryable: true });
  return error instanceof Error ? error.message : '';
}

function childrenOf(pid: number): readonly number[] {
  return spawnSync('pgrep', ['-P', String(pid)], { encoding: 'utf8' })
    .stdout.split('\n')
    .filter((line) => line !== '')
    .map(Number)
    .filter((child) => readFileSync(`/proc/${child}/cmdline`, 'utf8').includes('storage-process'));
}

beforeEach((context) => {
  const made = mountTmpfs('size=64m');
  if (typeof made === 'string') return context.skip(made);
  mount = made;
});
afterEach(async () => {
  await store?.close();
  store = undefined;
  mount.dispose();
});

describe('what is not mounted there is offline', () => {
  it('a plain folder, one that is missing, one inside of a mount, another source, another type', async () => {
    const plain = mkdtempSync(join(tmpdir(), 'chainkeep-plain-'));
    expect(await refusal(plain)).toContain('nothing is mounted there');
    expect(await refusal(join(plain, 'missing'))).toContain('is not there');
    mkdirSync(join(mount.path, 'inside'));
    expect(await refusal(join(mount.path, 'inside'))).toContain(`is a folder of ${mount.path}`);
    expect(await refusal(mount.path, 'tmpfs other')).toContain('has chainkeep-test (tmpfs) mounted, not other (tmpfs)');
    expect(await refusal(mount.path, 'nfs4 chainkeep-test')).toContain('not chainkeep-test (nfs4)');
    expect(readdirSync(plain)).toEqual([]);
    rmSync(plain, { recursive: true });
  });

  it('also for a share of ours whose place is taken by another mount', async () => {
    const config = { server: 'nas', export_path: '/backups', mount_point: mount.path };
    expect(await codeOf(openStore('nfs', config, { create: true, home: mount.path }))).toBe('REPOSITORY_OFFLINE');
    expect(readdirSync(mount.path)).toEqual([]);
  });
});

it('a mount that fails leaves no folder, and makes none below a place that is not there', async () => {
  const home = mkdtempSync(join(tmpdir(), 'chainkeep-home-'));
  for (const [point, code] of [
    [join(home, 'point'), ['MOUNT_FAILED', 'REPOSITORY_OFFLINE']],
    [join(home, 'no/such/point'), ['REPOSITORY_OFFLINE']],
  ] as const) {
    const made: (() => Promise<void>)[] = [];
    const config = { server: '127.0.0.1', export_path: '/chainkeep-test', mount_point: point };
    const opening = openStore('nfs', config, { create: true, home, onMade: (undo) => made.push(undo) });
    expect(code, point).toContain(await codeOf(opening));
    for (const undo of made.toReversed()) await undo();
  }
  expect(readdirSync(home)).toEqual(['mounts']);
  rmSync(home, { recursive: true });
});

it('errors name the mount point, not the way that leads into it', async () => {
  const opened = await open();
  const error: unknown = await opened.open('missing').catch((caught: unknown) => caught);
  expect(error).toMatchObject({ code: 'BLOB_NOT_FOUND', message: `there is no missing in ${mount.path}`, context: { place: mount.path } });
});

it('what goes away while it is open takes nothing to the folder below', async () => {
  const opened = await open();
  await writeBlob(opened, 'kept', 'content');
  const sink = await opened.put('late');
  const source = await opened.open('kept');
  mount.unmount();
  await sink.append([Buffer.from('to the share, wherever it is now')]);
  expect(await codeOf(sink.finish(new Uint8Array(0)))).toBe('REPOSITORY_OFFLINE');
  expect(await codeOf(writeBlob(opened, 'new', 'x'))).toBe('REPOSITORY_OFFLINE');
  expect(await codeOf(opened.delete('kept'))).toBe('REPOSITORY_OFFLINE');
  expect(await codeOf(listNames(opened))).toBe('REPOSITORY_OFFLINE');
  expect(await codeOf(opened.stat('kept'))).toBe('REPOSITORY_OFFLINE');
  expect(await codeOf(opened.sweep('', () => true))).toBe('REPOSITORY_OFFLINE');
  expect(await codeOf(opened.capacity())).toBe('REPOSITORY_OFFLINE');
  const bytes = new Uint8Array(7);
  await source.read(bytes, 0); // what is open is still that file
  expect(Buffer.from(bytes).toString()).toBe('content');
  await source.close();
  await sink.abort();
  expect(readdirSync(mount.path)).toEqual([]);
});

it('what is covered by another mount is offline until that is gone', async () => {
  const opened = await open();
  await writeBlob(opened, 'kept', 'content');
  spawnSync('mount', ['-t', 'tmpfs', 'cover', mount.path]);
  try {
    expect(await codeOf(writeBlob(opened, 'new', 'x'))).toBe('REPOSITORY_OFFLINE');
    expect(readdirSync(mount.path)).toEqual([]);
  } finally {
    spawnSync('umount', [mount.path]);
  }
  expect((await readBlob(opened, 'kept')).toString()).toBe('content');
});

it('large appends and reads go in pieces and come together again', async () => {
  const opened = await open();
  const bytes = patternBytes(9_000_001);
  const sink = await opened.put('large');
  const offsets = await Promise.all([
    sink.append([bytes.subarray(0, 5_000_000)]),
    sink.append([bytes.subarray(5_000_000), Buffer.from('!')]),
  ]);
  expect(offsets).toEqual([0, 5_000_000]);
  await sink.finish(new Uint8Array(0));
  const read = await readBlob(opened, 'large');
  expect(read.length).toBe(9_000_002);
  expect(read.subarray(0, 9_000_001).equals(bytes)).toBe(true);
});

describe('the process of a repository', () => {
  it('that ends by force loses what was open; the next use, not before a pause, has a new one', async () => {
    const opened = await open();
    await writeBlob(opened, 'kept', 'content');
    const sink = await opened.put('lost');
    const source = await opened.open('kept');
    const [child = 0] = childrenOf(process.pid);
    process.kill(child, 'SIGKILL');
    expect(await codeOf(sink.append([Buffer.from('x')]))).toBe('REPOSITORY_OFFLINE');
    expect(await codeOf(source.read(new Uint8Array(1), 0))).toBe('REPOSITORY_OFFLINE');
    expect(await codeOf(opened.stat('kept'))).toBe('REPOSITORY_OFFLINE'); // at once, without another try
    await sleep(1100);
    const [info, ...others] = await Promise.all([opened.stat('kept'), opened.stat('kept'), opened.stat('lost')]);
    expect(info?.size).toBe(7);
    expect(others[1]).toBeUndefined();
    expect(childrenOf(process.pid).length).toBe(1);
    expect(await codeOf(sink.append([Buffer.from('x')]))).toBe('REPOSITORY_OFFLINE');
    await source.close();
    expect(await codeOf(sink.abort())).toBe('REPOSITORY_OFFLINE');
  });

  it('ends with a killed parent, and commits nothing after it', async () => {
    const program = fileURLToPath(new URL('./use-mounted-process.ts', import.meta.url));
    const parent = spawn(process.execPath, [program, JSON.stringify(settings(mount.path))], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(parent.stdout, 'data');
    const [child = 0] = childrenOf(parent.pid ?? 0);
    parent.kill('SIGKILL');
    await once(parent, 'exit');
    for (let waited = 0; existsSync(`/proc/${child}/cmdline`) && waited < 20_000; waited += 20) {
      if (readFileSync(`/proc/${child}/cmdline`, 'utf8') === '') break; // ended, and not collected yet
      await sleep(20);
    }
    expect(existsSync(`/proc/${child}/cmdline`) ? readFileSync(`/proc/${child}/cmdline`, 'utf8') : '').toBe('');
    expect(readdirSync(mount.path).filter((name) => !name.includes('.tmp-'))).toEqual([]);
  });

  it('gets no secrets with its environment', async () => {
    process.env.CHAINKEEP_TEST_CANARY = 'canary';
    await open();
    const [child = 0] = childrenOf(process.pid);
    const seen = readFileSync(`/proc/${child}/environ`, 'utf8') + readFileSync(`/proc/${child}/cmdline`, 'utf8');
    delete process.env.CHAINKEEP_TEST_CANARY;
    expect(seen).toContain('UV_THREADPOOL_SIZE');
    expect(seen).not.toContain('canary');
  });
});

it('a full share says what was needed and what there is', async () => {
  const opened = await open();
  expect(await codeOf(opened.put('huge', { expectedSize: 1e9 }))).toBe('INSUFFICIENT_STORAGE');
  const sink = await opened.put('huge');
  const mib = Buffer.alloc(1024 * 1024, 'x');
  const error: unknown = await (async () => {
    for (let count = 0; count < 80; count += 1) await sink.append([mib]);
  })().catch((caught: unknown) => caught);
  expect(error).toMatchObject({ code: 'INSUFFICIENT_STORAGE', context: { name: 'huge', available_bytes: expect.any(Number) } });
  await expect(sink.finish(new Uint8Array(0))).rejects.toBe(error);
  await sink.abort();
  expect(readdirSync(mount.path)).toEqual([]);
  writeFileSync(join(mount.path, 'foreign'), '');
  expect(await listNames(opened)).toEqual(['foreign']);
});
