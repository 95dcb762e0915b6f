// Conformance of stores: which names there can be, how they are listed, how blobs and leftovers go.

import { expect, it, vi } from 'vitest';
import { isChainkeepError } from '../../plumbing/errors.ts';
import type { Leftover } from '../blob-store.ts';
import { listNames, writeBlob } from '../trial.ts';
import type { Subject } from './conformance.ts';
import { codeOf, listLeftovers, readBlob } from './store-probe.ts';

/** More than one page of an object store's listing. */
const MANY = 1100;

/** Names that are refused by everything that takes one. */
export const REFUSED_NAMES = [
  '',
  '/',
  '.',
  '..',
  '../a',
  'a/../b',
  'a/..',
  './a',
  'a/./b',
  '/a',
  '/etc/passwd',
  'a/',
  'a//b',
  '..\\a',
  'a\\b',
  'C:\\a',
  'C:a',
  '%2e%2e/a',
  'a%2fb',
  'a\0b',
  'a\nb',
  'a b',
  'a:b',
  'a*',
  'a?',
  'ä',
  'a\u0301',
  '\u202Ea',
  '🙂',
  '-\u2028',
  'a.',
  'a./b',
  '...',
  '~',
  '$HOME',
  '`id`',
  "a'b",
  'a"b',
  'con',
  'CON',
  'aux.json',
  'nul.qcow2',
  'COM1',
  'lpt9.txt',
  '.snapshot/a',
  'lost+found/a',
  '@eaDir/a',
  'a.tmp-0123456789ab',
  'x'.repeat(201),
  `${'x/'.repeat(512)}x`,
] as const;

export function namingBehaviours(subject: Subject): void {
  it('names that could leave the store, or that not every store can hold, are refused everywhere', async () => {
    const { store } = subject();
    for (const name of REFUSED_NAMES) {
      const shown = JSON.stringify(name).slice(0, 60);
      expect(await codeOf(store.stat(name)), `stat ${shown}`).toBe('BLOB_NAME_INVALID');
      expect(await codeOf(store.open(name)), `open ${shown}`).toBe('BLOB_NAME_INVALID');
      expect(await codeOf(store.put(name)), `put ${shown}`).toBe('BLOB_NAME_INVALID');
      expect(await codeOf(store.delete(name)), `delete ${shown}`).toBe('BLOB_NAME_INVALID');
      if (store.capabilities.retention === 'none') continue;
      expect(await codeOf(store.protect(name, { hold: true })), `protect ${shown}`).toBe('BLOB_NAME_INVALID');
      expect(await codeOf(store.protectionOf(name)), `protectionOf ${shown}`).toBe('BLOB_NAME_INVALID');
      expect(await codeOf(store.release(name)), `release ${shown}`).toBe('BLOB_NAME_INVALID');
    }
    for (const prefix of ['/', '../', '..\\', '/etc', 'a/../', 'a//', 'a\0', './', 'a/./b', 'ä', '.snapshot/']) {
      expect(await codeOf(listNames(store, prefix)), `list ${JSON.stringify(prefix)}`).toBe('BLOB_NAME_INVALID');
      expect(await codeOf(store.sweep(prefix, () => true)), `sweep ${JSON.stringify(prefix)}`).toBe('BLOB_NAME_INVALID');
    }
  });

  it('every other name works: dots in front, dashes, capitals, long ones, ten folders', async () => {
    const { store } = subject();
    const names = ['.a', '..a', '-a', 'A', 'a.b.c', 'console.json', 'x'.repeat(200), 'a/b/c/d/e/f/g/h/i/j', 'a.tmp', 'a.tmp-short', '_'];
    for (const name of names) await writeBlob(store, name === 'A' ? 'folder/A' : name, name);
    for (const name of names) expect((await readBlob(store, name === 'A' ? 'folder/A' : name)).toString()).toBe(name);
    expect((await listNames(store)).length).toBe(names.length);
  });

  it('names that differ in capitals alone are two blobs, or the second is refused to who only creates', async () => {
    const { store } = subject();
    await writeBlob(store, 'case/blob', 'small', { ifAbsent: true });
    const second = await writeBlob(store, 'case/Blob', 'large', { ifAbsent: true }).then(
      () => 'created',
      (error: unknown) => (isChainkeepError(error) ? error.code : 'unknown'),
    );
    expect(['created', 'BLOB_EXISTS']).toContain(second);
    const names = await listNames(store, 'case/');
    expect(names).toEqual(second === 'created' ? ['case/Blob', 'case/blob'] : ['case/blob']);
    expect((await readBlob(store, 'case/blob')).toString()).toBe('small');
    expect(await listLeftovers(store)).toEqual([]);
  });

  it('a listing is sorted by whole names and has every blob once, and only those that begin with the prefix', async () => {
    const { store } = subject();
    const names = [
      'a',
      'a-b',
      'a.b/c',
      'ab/c',
      'ab/d/e',
      'ab/d-0',
      'ab0',
      'b/a',
      'vms/x/disk-0/1.json',
      'vms/x/disk-10/1.json',
      'vms/x/disk-1/1.json',
    ];
    for (const name of [...names].reverse()) await writeBlob(store, name, name);
    const sorted = [...names].sort();
    for (const prefix of [
      '',
      'a',
      'ab',
      'ab/',
      'ab/d',
      'ab/d/',
      'vms/x/disk-1',
      'vms/x/disk-1/',
      'vms/',
      'nothing',
      'nothing/below',
      'a/',
      'a.',
    ]) {
      expect(await listNames(store, prefix), `prefix ${prefix}`).toEqual(sorted.filter((name) => name.startsWith(prefix)));
    }
    for await (const blob of store.list('')) expect(blob.size).toBe(blob.name.length);
  });

  it('a listing of many blobs is complete and sorted', async () => {
    const { store, many = MANY } = subject();
    const names = Array.from({ length: many }, (_, index) => `many/${index}.json`);
    for (let start = 0; start < many; start += 50)
      await Promise.all(names.slice(start, start + 50).map((name) => writeBlob(store, name, '{}')));
    expect(await listNames(store, 'many/')).toEqual(names.sort());
  }, 60_000);

  it('a listing may be left early, and goes on while blobs come and go', async () => {
    const { store } = subject();
    for (let index = 0; index < 100; index += 1) await writeBlob(store, `l/${String(index).padStart(3, '0')}`, 'x');
    const seen: string[] = [];
    for await (const blob of store.list('l/')) {
      seen.push(blob.name);
      if (blob.name === 'l/010') await store.delete('l/099');
    }
    expect(seen.filter((name) => name !== 'l/099').length).toBe(99);
    for await (const blob of store.list('l/')) if (blob.name === 'l/003') break;
    expect((await listNames(store, 'l/')).length).toBe(99);
  });

  it('delete removes one blob, and a missing one is no error', async () => {
    const { store } = subject();
    await writeBlob(store, 'a/b', '1');
    await writeBlob(store, 'a/bc', '2');
    await store.delete('a/b');
    await store.delete('a/b');
    await store.delete('x/y/z');
    expect(await listNames(store)).toEqual(['a/bc']);
    await store.delete('a/bc');
    expect(await listNames(store)).toEqual([]);
    await writeBlob(store, 'a/b', '3');
    expect(await listNames(store)).toEqual(['a/b']);
  });

  it('a folder may become empty and vanish while others write into it', async () => {
    const { store } = subject();
    const cycle = async (writer: number): Promise<void> => {
      for (let round = 0; round < 15; round += 1) {
        await writeBlob(store, `shared/deep/${writer}`, `${round}`, { ifAbsent: true });
        await store.delete(`shared/deep/${writer}`);
      }
      await writeBlob(store, `shared/deep/${writer}`, 'last');
    };
    await Promise.all([cycle(1), cycle(2), cycle(3), cycle(4)]);
    expect(await listNames(store)).toEqual(['shared/deep/1', 'shared/deep/2', 'shared/deep/3', 'shared/deep/4']);
  });

  it('what storage boxes, consoles and copies of a folder leave there is no blob; temporaries go with a sweep, and nothing else', async ({
    skip,
  }) => {
    const { store, putForeign } = subject();
    if (!putForeign) return skip('nobody else can write there');
    await writeBlob(store, 'a/blob', 'ours');
    for (const name of ['.snapshot/a/blob', '@eaDir/b', 'a/@eaDir/c.tmp-0123456789ab', 'a/lost+found/1', 'empty/']) await putForeign(name);
    for (const name of ['a/blob.tmp-0123456789ab', 'picture of a cat']) await putForeign(name);
    expect(await listNames(store)).toEqual(['a/blob', 'picture of a cat']);
    expect(await listLeftovers(store)).toEqual(['a/blob.tmp-0123456789ab']);
    expect((await store.sweep('', () => true)).map(({ name }) => name)).toEqual(['a/blob.tmp-0123456789ab']);
    expect(await listLeftovers(store)).toEqual([]);
    expect(await listNames(store)).toEqual(['a/blob', 'picture of a cat']);
  });

  it('sweep removes the leftovers that are said to be dead, and nothing else', async () => {
    const { store, leftoverBytes = 5, keepsSweptParts = false, refusesOpen } = subject();
    await writeBlob(store, 'a/blob', 'kept');
    const sinks = [await store.put('a/one'), await store.put('a/two'), await store.put('b/three')];
    for (const sink of sinks) await sink.append([Buffer.alloc(leftoverBytes, 'x')]);
    await vi.waitFor(async () => expect((await listLeftovers(store)).length).toBe(3), { timeout: 20_000 });
    const all: Leftover[] = [];
    expect(await store.sweep('', (leftover) => all.push(leftover) < 0)).toEqual([]);
    expect(all.length).toBe(3);
    expect(all.every(({ size }) => size > 0 && size <= leftoverBytes)).toBe(true);
    expect(all.every((leftover) => Math.abs(leftover.modifiedAt - Date.now()) < 3_600_000)).toBe(true);
    const swept = await store.sweep('a/', (leftover) => leftover.name.startsWith('a/one'));
    const kept = refusesOpen === 'replace and delete';
    const expected = kept ? [] : all.filter((leftover) => leftover.name.startsWith('a/one'));
    expect(swept.map((leftover) => leftover.name)).toEqual(expected.map((leftover) => leftover.name));
    // A file server may show what was deleted until whoever has it open closes it.
    if (refusesOpen !== 'replace') expect((await listLeftovers(store)).length).toBe(3 - expected.length);
    if (kept) {
      await sinks[0]?.abort(); // the server knew that its writer lives
    } else if (!keepsSweptParts) {
      // A writer that was taken for dead and is not must not believe that it committed.
      await expect(sinks[0]?.finish(new Uint8Array(0))).rejects.toThrow();
    }
    await sinks[1]?.finish(new Uint8Array(0));
    await Promise.all(sinks.map((sink) => sink.abort()));
    expect(await listNames(store)).toEqual(['a/blob', 'a/two']);
    expect(await listLeftovers(store)).toEqual([]);
  });
}
