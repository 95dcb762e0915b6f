// What is special about a folder as a store: modes, links, foreign files, a root that goes away.

import { execFileSync } from 'node:child_process';
import { link, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BlobStore } from '../../src/store/blob-store.ts';
import { openRoot } from '../../src/store/local/local-root.ts';
import { openLocalStore } from '../../src/store/local/local-store.ts';
import { publishNew } from '../../src/store/local/publish.ts';
import { codeOf, listLeftovers, readBlob } from '../../src/store/testing/store-probe.ts';
import { listNames, writeBlob } from '../../src/store/trial.ts';

let top: string;
let root: string;
let store: BlobStore;

beforeEach(async () => {
  top = await mkdtemp(join(tmpdir(), 'chainkeep-local-'));
  root = join(top, 'repo');
  store = await openLocalStore(root, { create: true });
});
afterEach(() => rm(top, { recursive: true, force: true }));

describe('opening', () => {
  it('makes a missing folder and those above it only when asked', async () => {
    const path = join(top, 'new', 'deep');
    expect(await codeOf(openLocalStore(path, { create: false }))).toBe('REPOSITORY_OFFLINE');
    const made = await openLocalStore(path, { create: true });
    expect(made.place).toBe(path);
    expect((await stat(path)).mode & 0o777).toBe(0o700);
    await openLocalStore(path, { create: true });
  });

  it('takes a root that is a link, as the administrator set it up', async () => {
    await symlink(root, join(top, 'link'));
    const linked = await openLocalStore(join(top, 'link'), { create: false });
    await writeBlob(linked, 'a/b', 'x');
    expect((await readBlob(store, 'a/b')).toString()).toBe('x');
  });

  it('refuses a file, a folder below a file, and a relative path', async () => {
    await writeFile(join(top, 'file'), '');
    expect(await codeOf(openLocalStore(join(top, 'file'), { create: true }))).toBe('REPOSITORY_OFFLINE');
    expect(await codeOf(openLocalStore(join(top, 'file', 'x'), { create: true }))).toBe('STORE_FAILED');
    expect(await codeOf(openLocalStore('relative', { create: true }))).toBe('CONFIG_INVALID');
  });
});

describe('what lies on disk', () => {
  it('files are 0600 and folders 0700, whatever the umask', async () => {
    const umask = process.umask(0);
    try {
      await writeBlob(store, 'vms/a/x', 'x', { ifAbsent: true });
      await writeBlob(store, 'vms/a/y', 'y');
      const sink = await store.put('vms/a/z');
      const names = await readdir(join(root, 'vms/a'));
      expect(names.length).toBe(3);
      for (const name of names) expect((await stat(join(root, 'vms/a', name))).mode & 0o777, name).toBe(0o600);
      for (const name of ['vms', 'vms/a']) expect((await stat(join(root, name))).mode & 0o777, name).toBe(0o700);
      await sink.abort();
    } finally {
      process.umask(umask);
    }
  });

  it('delete takes away folders that became empty, but never the root', async () => {
    await writeBlob(store, 'vms/a/disk-0/x', 'x');
    await writeBlob(store, 'vms/b/y', 'y');
    await store.delete('vms/a/disk-0/x');
    expect(await readdir(join(root, 'vms'))).toEqual(['b']);
    await store.delete('vms/b/y');
    expect(await readdir(root)).toEqual([]);
  });

  it('folders of storage boxes and temporaries are not listed, foreign files are, and cannot be opened', async () => {
    for (const folder of ['lost+found', '.snapshot', '@eaDir', 'vms/@eaDir', 'Holiday pictures'])
      await mkdir(join(root, folder), { recursive: true });
    for (const file of ['lost+found/1', '.snapshot/x', '@eaDir/x', 'vms/@eaDir/x', 'Holiday pictures/ä 1.jpg'])
      await writeFile(join(root, file), 'x');
    await writeBlob(store, 'vms/a', 'x');
    const sink = await store.put('vms/b');
    expect(await listNames(store)).toEqual(['Holiday pictures/ä 1.jpg', 'vms/a']);
    expect(await codeOf(store.open('Holiday pictures/ä 1.jpg'))).toBe('BLOB_NAME_INVALID');
    await sink.abort();
  });

  it('a named pipe or a folder in the place of a blob is not a blob, and nobody waits for it', async () => {
    execFileSync('mkfifo', [join(root, 'pipe')]);
    await mkdir(join(root, 'folder'));
    for (const name of ['pipe', 'folder']) {
      expect(await codeOf(store.open(name))).toBe('BLOB_NOT_FOUND');
      expect(await store.stat(name)).toBeUndefined();
      expect(await codeOf(writeBlob(store, name, 'x', { ifAbsent: true }))).toBe('BLOB_EXISTS');
    }
    expect(await codeOf(writeBlob(store, 'folder', 'x'))).toBe('STORE_FAILED');
    expect(await codeOf(writeBlob(store, 'pipe/x', 'x'))).toBe('STORE_FAILED');
    expect([...(await listNames(store)), ...(await listLeftovers(store))]).toEqual([]);
  });

  it('an open image that is cut by somebody else is BLOB_CHANGED, never zeros', async () => {
    await writeBlob(store, 'a', 'x'.repeat(10_000));
    const source = await store.open('a');
    await writeFile(join(root, 'a'), 'short');
    expect(await codeOf(source.read(new Uint8Array(100), 5000))).toBe('BLOB_CHANGED');
    await source.close();
  });
});

describe('links below the root are not followed', () => {
  beforeEach(async () => {
    await mkdir(join(top, 'outside'));
    await writeFile(join(top, 'outside', 'canary'), 'secret');
    await symlink(join(top, 'outside'), join(root, 'vms'));
    await symlink(join(top, 'outside', 'canary'), join(root, 'canary'));
  });

  it('neither to a folder nor to a file, by no call', async () => {
    for (const name of ['vms/canary', 'canary']) {
      expect(await codeOf(store.open(name)), `open ${name}`).toBe('STORE_FAILED');
      expect(await codeOf(store.stat(name)), `stat ${name}`).toBe('STORE_FAILED');
    }
    expect(await codeOf(store.put('vms/new'))).toBe('STORE_FAILED');
    expect(await codeOf(store.put('vms/deep/new'))).toBe('STORE_FAILED');
    expect(await codeOf(store.delete('vms/canary'))).toBe('STORE_FAILED');
    for (const prefix of ['', 'vms', 'vms/', 'vms/c', 'canary'])
      expect(await codeOf(listNames(store, prefix)), `list ${prefix}`).toBe('STORE_FAILED');
    expect(await codeOf(store.sweep('', () => true))).toBe('STORE_FAILED');
    expect(await readdir(join(top, 'outside'))).toEqual(['canary']);
  });

  it('a blob that is created over a link is refused, one that replaces it leaves its target alone, delete removes the link', async () => {
    expect(await codeOf(writeBlob(store, 'canary', 'new', { ifAbsent: true }))).toBe('BLOB_EXISTS');
    await writeBlob(store, 'canary', 'new');
    expect((await readBlob(store, 'canary')).toString()).toBe('new');
    await symlink(join(top, 'outside', 'canary'), join(root, 'other'));
    await store.delete('other');
    expect(await readFile(join(top, 'outside', 'canary'), 'utf8')).toBe('secret');
  });
});

describe('a root that is gone', () => {
  const calls = (): Record<string, () => Promise<unknown>> => ({
    list: () => listNames(store),
    'list below': () => listNames(store, 'vms/a/'),
    stat: () => store.stat('vms/a/x'),
    open: () => store.open('vms/a/x'),
    put: () => store.put('vms/a/new'),
    delete: () => store.delete('vms/a/x'),
    sweep: () => store.sweep('', () => true),
    capacity: () => store.capacity(),
  });

  it('is REPOSITORY_OFFLINE for every call, never "not there" or "empty"', async () => {
    await writeBlob(store, 'vms/a/x', 'x');
    await rename(root, join(top, 'moved'));
    for (const [name, call] of Object.entries(calls())) expect(await codeOf(call()), name).toBe('REPOSITORY_OFFLINE');
    expect(await readdir(top)).toEqual(['moved']);
    await rename(join(top, 'moved'), root);
    expect(await listNames(store)).toEqual(['vms/a/x']);
  });

  it('is not mistaken for another folder at the same path, as an unmounted disk leaves it', async () => {
    await writeBlob(store, 'vms/a/x', 'x');
    await rename(root, join(top, 'moved'));
    await mkdir(root);
    for (const [name, call] of Object.entries(calls())) expect(await codeOf(call()), name).toBe('REPOSITORY_OFFLINE');
    expect(await readdir(root)).toEqual([]);
  });

  it('between put and finish: an error, and nothing is made elsewhere', async () => {
    const sink = await store.put('vms/a/x', { ifAbsent: true });
    await sink.append([Buffer.from('x')]);
    await rename(root, join(top, 'moved'));
    await mkdir(root);
    expect(await codeOf(sink.finish(new Uint8Array(0)))).toBe('REPOSITORY_OFFLINE');
    await sink.abort();
    expect(await readdir(root)).toEqual([]);
  });
});

it('a create whose answer was lost on the network and is asked again has succeeded', async () => {
  // The server linked the file, its answer was lost, the client asked again and was told EEXIST.
  const [temporary, final] = [join(root, 'x.tmp-0123456789ab'), join(root, 'x')];
  await writeFile(temporary, 'mine');
  await link(temporary, final);
  await publishNew(await openRoot(root, { create: false }), temporary, final);
  expect(await readdir(root)).toEqual(['x']);
});
