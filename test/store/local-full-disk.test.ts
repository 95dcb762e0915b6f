// A store whose file system is full, read-only or gone, on small file systems of its own.

import { chmod, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { isChainkeepError } from '../../src/plumbing/errors.ts';
import type { BlobStore } from '../../src/store/blob-store.ts';
import { openLocalStore } from '../../src/store/local/local-store.ts';
import { selfTest } from '../../src/store/self-test.ts';
import { codeOf, listLeftovers, patternBytes, readBlob } from '../../src/store/testing/store-probe.ts';
import { listNames, writeBlob } from '../../src/store/trial.ts';
import { mountTmpfs, type TemporaryMount } from './temporary-mount.ts';

const PAGE = 4096;
let mounted: TemporaryMount | undefined;

afterEach(() => {
  mounted?.dispose();
  mounted = undefined;
});

/** The mount, or the test is left out with the reason. */
function mountOrSkip(options: string, skip: (reason: string) => never): TemporaryMount {
  const mount = mountTmpfs(options);
  if (typeof mount === 'string') return skip(mount);
  mounted = mount;
  return mount;
}

async function expectOnlyOld(store: BlobStore): Promise<void> {
  expect(await listNames(store)).toEqual(['vms/a/old']);
  expect(await listLeftovers(store)).toEqual([]);
  expect(Buffer.compare(await readBlob(store, 'vms/a/old'), patternBytes(3 * PAGE))).toBe(0);
}

describe('a full disk', () => {
  it('filled page by page: an error with both sizes, the old blob fine, the room given back, and it works when there is room', async ({
    skip,
  }) => {
    const { path } = mountOrSkip('size=256k', skip);
    const store = await openLocalStore(path, { create: false });
    await writeBlob(store, 'vms/a/old', patternBytes(3 * PAGE));
    const filler = join(path, '.snapshot'); // a name that no listing shows
    const free = (await store.capacity())?.availableBytes ?? 0;
    let refused = 0;
    for (let pages = 0; ; pages += 1) {
      await writeFile(filler, Buffer.alloc(free - pages * PAGE, 1));
      const before = (await store.capacity())?.availableBytes;
      expect(before).toBe(pages * PAGE);
      const blob = patternBytes(8 * PAGE + 100, 7);
      const error = await writeBlob(store, 'vms/b/new', blob, { ifAbsent: true, headLength: 100 }).catch((fault: unknown) => fault);
      if (error === undefined) {
        expect(Buffer.compare(await readBlob(store, 'vms/b/new'), blob)).toBe(0);
        break;
      }
      refused += 1;
      expect(isChainkeepError(error, 'INSUFFICIENT_STORAGE') && error.context).toMatchObject({
        required_bytes: blob.length,
        name: 'vms/b/new',
      });
      expect(isChainkeepError(error) && Number(error.context.available_bytes)).toBeLessThan(blob.length);
      await expectOnlyOld(store);
      expect((await store.capacity())?.availableBytes).toBe(before);
    }
    expect(refused).toBe(9);
  });

  it('without inodes, at every number of them: the same for folders, temporaries and links', async ({ skip }) => {
    const mount = mountOrSkip('size=256k,nr_inodes=4', skip);
    const store = await openLocalStore(mount.path, { create: false });
    for (let inodes = 1; ; inodes += 1) {
      mount.remount(`nr_inodes=${inodes}`);
      const code = await writeBlob(store, 'vms/a/new', 'x', { ifAbsent: true }).then(
        () => 'ok',
        (error: unknown) => (isChainkeepError(error) ? error.code : String(error)),
      );
      if (code === 'ok') {
        expect(inodes).toBeGreaterThan(4); // root, two folders, the temporary, and its second name
        break;
      }
      expect(code, `${inodes} inodes`).toBe('INSUFFICIENT_STORAGE');
      expect([...(await listNames(store)), ...(await listLeftovers(store))]).toEqual([]);
    }
  });
});

describe('a file system that cannot be written', () => {
  it('mounted read-only: reading works, every write is REPOSITORY_READ_ONLY', async ({ skip }) => {
    const mount = mountOrSkip('size=256k', skip);
    const store = await openLocalStore(mount.path, { create: false });
    await writeBlob(store, 'vms/a/old', patternBytes(3 * PAGE));
    mount.remount('ro');
    expect(await codeOf(store.put('vms/a/new'))).toBe('REPOSITORY_READ_ONLY');
    expect(await codeOf(store.put('vms/b/new'))).toBe('REPOSITORY_READ_ONLY');
    expect(await codeOf(store.delete('vms/a/old'))).toBe('REPOSITORY_READ_ONLY');
    await expectOnlyOld(store);
    expect(await codeOf(openLocalStore(join(mount.path, 'new'), { create: true }))).toBe('REPOSITORY_READ_ONLY');
    const steps = await selfTest(store);
    expect(steps.map((step) => step.ok)).toEqual([true, true, ...Array.from({ length: 11 }, () => false), true]);
    expect(steps[2]?.message).toMatch(/^REPOSITORY_READ_ONLY: /);
    expect(steps[3]?.message).toBe('not tried, because "write" failed');
    mount.remount('rw');
    await store.delete('vms/a/old');
  });

  it('a folder without permission: the same', async ({ skip }) => {
    if (process.getuid?.() === 0) skip('root may write into every folder; the read-only mount stands for it');
    const path = await mkdtemp(join(tmpdir(), 'chainkeep-denied-'));
    const store = await openLocalStore(path, { create: false });
    await chmod(path, 0o500);
    expect(await codeOf(store.put('new'))).toBe('REPOSITORY_READ_ONLY');
    expect(await codeOf(openLocalStore(join(path, 'new'), { create: true }))).toBe('REPOSITORY_READ_ONLY');
    await rm(path, { recursive: true });
  });
});

it('a disk that is unmounted while the store is open: REPOSITORY_OFFLINE, and the mount point stays empty', async ({ skip }) => {
  const mount = mountOrSkip('size=256k', skip);
  const store = await openLocalStore(mount.path, { create: false });
  await writeBlob(store, 'vms/a/old', 'x');
  const sink = await store.put('vms/a/new', { ifAbsent: true });
  await sink.append([Buffer.from('x')]);
  mount.unmount();
  const calls = {
    list: () => listNames(store),
    stat: () => store.stat('vms/a/old'),
    open: () => store.open('vms/a/old'),
    put: () => store.put('vms/a/x'),
    delete: () => store.delete('vms/a/old'),
  };
  for (const [name, call] of Object.entries(calls)) expect(await codeOf(call()), name).toBe('REPOSITORY_OFFLINE');
  expect(await codeOf(sink.finish(new Uint8Array(0)))).toBe('REPOSITORY_OFFLINE');
  await sink.abort();
  expect((await stat(mount.path)).isDirectory()).toBe(true);
  expect(await readdir(mount.path)).toEqual([]);
});
