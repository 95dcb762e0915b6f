// The fault tools themselves: an injected fault happens where it should, once or for good; and the self-test survives all of them.

import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ChainkeepError } from '../../src/plumbing/errors.ts';
import type { BlobStore } from '../../src/store/blob-store.ts';
import { openLocalStore } from '../../src/store/local/local-store.ts';
import { selfTest } from '../../src/store/self-test.ts';
import { faultyStore } from '../../src/store/testing/faulty-store.ts';
import { codeOf, listLeftovers, readBlob } from '../../src/store/testing/store-probe.ts';
import { listNames, writeBlob } from '../../src/store/trial.ts';

let path: string;
let inner: BlobStore;

beforeEach(async () => {
  path = await mkdtemp('/dev/shm/chainkeep-faulty-');
  inner = await openLocalStore(path, { create: false });
});
afterEach(() => rm(path, { recursive: true }));

describe('faultyStore', () => {
  it('fails the Nth operation, once', async () => {
    const { store, operations } = faultyStore(inner, { failAt: 3 });
    await writeBlob(store, 'a', 'x').catch(() => undefined);
    await writeBlob(store, 'b', 'y');
    expect(operations).toEqual(['put a', 'append a', 'finish a', 'abort a', 'put b', 'append b', 'finish b']);
    expect(await listNames(inner)).toEqual(['b']);
    expect(await listLeftovers(inner)).toEqual([]);
  });

  it('fails for good when sticky, so that a leftover stays as after a crash', async () => {
    const { store } = faultyStore(inner, { failAt: 3, sticky: true });
    expect(await codeOf(writeBlob(store, 'a', 'x'))).toBe('STORE_FAILED');
    expect(await codeOf(listNames(store))).toBe('STORE_FAILED');
    expect(await codeOf(store.stat('a'))).toBe('STORE_FAILED');
    expect((await listLeftovers(inner)).length).toBe(1);
  });

  it('counts only what the plan names, and throws what it says', async () => {
    const error = (): Error => new ChainkeepError('INSUFFICIENT_STORAGE', 'full');
    const { store, operations } = faultyStore(inner, { failAt: 2, operations: ['append'], error });
    await writeBlob(store, 'a', 'x');
    expect(await codeOf(writeBlob(store, 'b', 'x'))).toBe('INSUFFICIENT_STORAGE');
    expect(operations).toEqual(['append a', 'append b']);
  });

  it('tears an append: the first half is written, and the sink refuses all that follows', async () => {
    const { store } = faultyStore(inner, { failAt: 1, operations: ['append'], effect: 'torn' });
    const sink = await store.put('a');
    await expect(sink.append([Buffer.from('0123456789')])).rejects.toThrow('injected fault');
    await expect(sink.finish(new Uint8Array(0))).rejects.toThrow('injected fault');
    const [leftover] = await readdir(path);
    expect(await codeOf(readBlob(store, leftover ?? ''))).toBe('BLOB_NAME_INVALID');
    const sizes: number[] = [];
    await inner.sweep('', ({ size }) => sizes.push(size) < 0);
    expect(sizes).toEqual([5]);
    await sink.abort();
  });

  it('can lose an answer: done, and reported as failed', async () => {
    const { store } = faultyStore(inner, { failAt: 1, operations: ['finish', 'delete'], effect: 'after' });
    const sink = await store.put('a', { ifAbsent: true });
    await expect(sink.finish(new Uint8Array(0))).rejects.toThrow('injected fault');
    expect(await listNames(inner)).toEqual(['a']);
  });

  it('cuts a listing after its first blob, and fails reads', async () => {
    for (const name of ['a', 'b']) await writeBlob(inner, name, 'x');
    const seen: string[] = [];
    const listing = faultyStore(inner, { failAt: 1, operations: ['list'], effect: 'torn' }).store;
    await expect(
      (async () => {
        for await (const blob of listing.list('')) seen.push(blob.name);
      })(),
    ).rejects.toThrow('injected fault 1: list');
    expect(seen).toEqual(['a']);
    expect(await codeOf(readBlob(faultyStore(inner, { failAt: 1, operations: ['read'] }).store, 'a'))).toBe('STORE_FAILED');
  });
});

describe('the self-test', () => {
  it('passes on a good store and leaves nothing behind', async () => {
    await writeBlob(inner, 'mine', 'x');
    const steps = await selfTest(inner);
    expect(steps.filter((step) => !step.ok)).toEqual([]);
    expect(steps.map((step) => step.name)).toContain('create only');
    expect(await readdir(path)).toEqual(['mine']);
  });

  it.each([{ effect: 'before' }, { effect: 'after' }, { effect: 'torn', operations: ['append', 'list'] }] as const)(
    'fails the right way at each operation in turn ($effect): never throws, names a step, leaves nothing',
    async (kind) => {
      const hidden: string[] = [];
      for (let failAt = 1; ; failAt += 1) {
        const { store, operations } = faultyStore(inner, { failAt, ...kind });
        const steps = await selfTest(store);
        if (operations.length < failAt) {
          expect(steps.every((step) => step.ok)).toBe(true);
          expect(failAt).toBeGreaterThan(kind.effect === 'torn' ? 8 : 30);
          break;
        }
        const failed = operations[failAt - 1] ?? '';
        expect(await readdir(path), failed).toEqual([]);
        if (steps.every((step) => step.ok)) hidden.push(failed.split(' ')[0] ?? '');
      }
      // Only what is done twice (the clean-up), or fails anyway (the refused create), may hide a single fault.
      const creates = hidden.filter((operation) => !['list', 'delete', 'sweep'].includes(operation));
      // Of two that create at the same time the one that is refused may be the one that is hit.
      const most = kind.effect === 'after' ? ['finish', 'finish'] : [];
      expect([most, most.slice(1)]).toContainEqual(creates);
      expect(hidden.length).toBeLessThan(18);
    },
  );

  it('on a store that dies for good at any point it ends with a report', async () => {
    for (let failAt = 1; failAt <= 40; failAt += 3) {
      const steps = await selfTest(faultyStore(inner, { failAt, sticky: true }).store);
      expect(steps.length).toBe(14);
      expect(steps.at(-1)?.ok, `fault ${failAt}`).toBe(false);
    }
  });

  it('finds a store that lets a second creator win', async () => {
    const careless: BlobStore = {
      ...faultyStore(inner, { failAt: Number.POSITIVE_INFINITY }).store,
      put: (name, options) => inner.put(name, { ...options, ifAbsent: false }),
    };
    const steps = await selfTest(careless);
    expect(steps.filter((step) => !step.ok).map((step) => [step.name, step.message.slice(0, 12)])).toEqual([
      ['create only', 'STORE_FAILED'],
    ]);
    expect(await readdir(path)).toEqual([]);
  });
});
