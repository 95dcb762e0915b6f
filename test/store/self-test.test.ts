// The self-test names what is wrong with a storage, step by step, with something to do about it; and leaves nothing behind.

import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ChainkeepError } from '../../src/plumbing/errors.ts';
import type { BlobStore, StoreCapabilities } from '../../src/store/blob-store.ts';
import { openLocalStore } from '../../src/store/local/local-store.ts';
import { failedToOpen, type SelfTestOptions, selfTest } from '../../src/store/self-test.ts';
import { aroundStore, type StoreOperation } from '../../src/store/wrap/around-store.ts';

async function open(): Promise<{ readonly store: BlobStore; readonly left: () => Promise<readonly string[]> }> {
  const path = await mkdtemp(join('/dev/shm', 'chainkeep-self-test-'));
  const store = await openLocalStore(path, { create: false });
  onTestFinished(async () => {
    for await (const { name } of store.list('')) await store.release(name);
    await rm(path, { recursive: true });
  });
  return { store, left: () => readdir(path) };
}

/** A store of which some things are otherwise. */
function other(inner: BlobStore, change: Partial<BlobStore>, capabilities: Partial<StoreCapabilities> = {}): BlobStore {
  const store = aroundStore(inner, { around: (_call, act) => act() });
  return { ...store, capabilities: { ...inner.capabilities, ...capabilities }, ...change };
}

/** A store that refuses these operations. */
function refusing(inner: BlobStore, operations: readonly StoreOperation[], error: ChainkeepError): BlobStore {
  const list = async function* (prefix: string) {
    if (operations.includes('list')) throw error;
    yield* inner.list(prefix);
  };
  const around = aroundStore(inner, {
    around: async ({ operation }, act) => {
      if (operations.includes(operation)) throw error;
      return act();
    },
  });
  return { ...around, list };
}

async function stepsOf(store: BlobStore, options: SelfTestOptions = {}) {
  const steps = await selfTest(store, options);
  return { steps, step: (name: string) => steps.find((one) => one.name === name) };
}

describe('the self-test', () => {
  it('has a step for everything that backups need', async () => {
    const { store, left } = await open();
    const { steps } = await stepsOf(store);
    expect(steps.map(({ name }) => name)).toEqual([
      ...['reach', 'authenticate', 'write', 'read back', 'list', 'replace', 'create only', 'delete', 'retention', 'clock', 'capacity'],
      ...['speed up', 'speed down', 'clean up'],
    ]);
    expect(steps.filter(({ ok, warning }) => !ok || warning)).toEqual([]);
    for (const name of ['speed up', 'speed down']) {
      expect(steps.find((step) => step.name === name)?.bytes_per_second).toBeGreaterThan(0);
    }
    expect(await left()).toEqual([]);
  });

  it('tells who does not answer from who does not let us in', async () => {
    const { store } = await open();
    const denials = [
      new ChainkeepError('STORE_FAILED', 'no permission', { context: { system_code: 'EACCES' } }),
      new ChainkeepError('REPOSITORY_OFFLINE', 'the key is not accepted', { context: { status: 403 } }),
      new ChainkeepError('REPOSITORY_OFFLINE', 'the signature is wrong', { context: { status: 401 } }),
    ];
    for (const denied of denials) {
      const { steps, step } = await stepsOf(refusing(store, ['list'], denied));
      expect([step('reach')?.ok, step('authenticate')?.ok], denied.message).toEqual([true, false]);
      expect(step('authenticate')?.advice).toContain('--secret');
      expect(steps.slice(2, -1).every(({ message }) => message === 'not tried, because "authenticate" failed')).toBe(true);
    }
    const away = new ChainkeepError('REPOSITORY_OFFLINE', 'nobody there', { context: { system_code: 'ECONNREFUSED' } });
    const { step } = await stepsOf(refusing(store, ['list'], away));
    expect(step('reach')).toMatchObject({ ok: false, message: 'REPOSITORY_OFFLINE: nobody there', advice: expect.any(String) });
    expect(step('authenticate')?.message).toBe('not tried, because "reach" failed');
  });

  it('the same of a store that could not even be opened', () => {
    const away = failedToOpen(new ChainkeepError('REPOSITORY_OFFLINE', 'nobody there', { advice: 'switch it on' }));
    expect(away[0]).toMatchObject({ name: 'reach', ok: false, advice: 'switch it on' });
    const denied = failedToOpen(new ChainkeepError('STORE_FAILED', 'no', { context: { status: 403 } }));
    expect(denied.map(({ ok }) => ok)).toEqual([true, ...Array.from({ length: 12 }, () => false)]);
  });

  it('has advice for every step that fails', async () => {
    const { store, left } = await open();
    for (const [operations, name] of [
      [['put'], 'write'],
      [['read'], 'read back'],
      [['delete'], 'delete'],
      [['capacity'], 'capacity'],
    ] as const) {
      const { step } = await stepsOf(refusing(store, operations, new ChainkeepError('STORE_FAILED', 'broken')));
      expect(step(name), name).toMatchObject({
        ok: false,
        message: expect.stringContaining('broken'),
        advice: expect.stringMatching(/\w+/),
      });
    }
    for await (const blob of store.list('')) await store.delete(blob.name);
    expect(await left()).toEqual([]);
  });

  it('warns of a clock that is more than a minute off, in either direction', async () => {
    const { store } = await open();
    for (const [seconds, warning] of [
      [0, false],
      [50, false],
      [70, true],
      [-70, true],
    ] as const) {
      const { step } = await stepsOf(other(store, { now: async () => Date.now() + seconds * 1000 }, { clock: true }));
      expect(step('clock'), `${seconds}`).toMatchObject({ ok: true, warning });
      if (warning)
        expect(step('clock')?.message).toMatch(seconds > 0 ? /(70|69\.9|70\.\d) s ahead of ours/ : /(70|69\.9|70\.\d) s behind ours/);
    }
    const stat: BlobStore['stat'] = async (name) => {
      const info = await store.stat(name);
      return info && { ...info, modifiedAt: info.modifiedAt - 3_600_000 };
    };
    expect((await stepsOf(other(store, { stat }))).step('clock')).toMatchObject({ warning: true, advice: expect.stringContaining('NTP') });
  });

  it('warns of a store that has no room', async () => {
    const { store } = await open();
    const capacity = async () => ({ totalBytes: 1000, usedBytes: 1000, availableBytes: 0 });
    expect((await stepsOf(other(store, { capacity }))).step('capacity')).toMatchObject({ ok: true, warning: true });
  });

  it('says how a name is kept to its creator, and warns where the store does not do it', async () => {
    const { store } = await open();
    expect((await stepsOf(store)).step('create only')?.message).toContain('by the store itself');
    const { step } = await stepsOf(other(store, {}, { createOnly: false }));
    expect(step('create only')).toMatchObject({ ok: true, warning: true, advice: expect.stringContaining('leases') });
  });
});

describe('the step on retention', () => {
  it('is tried where the repository locks, and takes its file away again', async () => {
    const { store, left } = await open();
    const { step } = await stepsOf(store, { immutable: true });
    expect(step('retention')).toMatchObject({ ok: true, message: expect.stringMatching(/^a locked blob is kept, by /) });
    expect([step('clean up')?.message, await left()]).toEqual(['nothing is left behind', []]);
    expect((await stepsOf(store)).step('retention')?.message).toContain('does not ask for it');
  });

  it('finds a store that only pretends to lock', async () => {
    const { store } = await open();
    const pretending = other(store, { protect: async () => undefined });
    expect((await stepsOf(pretending, { immutable: true })).step('retention')).toMatchObject({
      ok: false,
      message: 'STORE_FAILED: a protected blob was deleted',
    });
    const unable = other(store, {}, { retention: 'none' });
    expect((await stepsOf(unable, { immutable: true })).step('retention')).toMatchObject({ ok: false, advice: expect.any(String) });
    expect((await stepsOf(unable)).step('retention')).toMatchObject({ ok: true, warning: false });
  });

  it('leaves a locked file only where it was asked to, and says until when', async () => {
    const { store, left } = await open();
    const locked = new Set<string>();
    // What a store with dates does: nothing takes the lock away before them.
    const enforcing = other(
      store,
      {
        protect: async (name) => void locked.add(name),
        protectionOf: async (name) => (locked.has(name) ? { until: Date.now() + 60_000 } : undefined),
        release: async () => undefined,
        delete: async (name) => {
          if (locked.has(name)) throw new ChainkeepError('IMMUTABLE_RETENTION_ACTIVE', `${name} is locked`);
          await store.delete(name);
        },
        put: async (name, options) => {
          if (locked.has(name)) throw new ChainkeepError('IMMUTABLE_RETENTION_ACTIVE', `${name} is locked`);
          return store.put(name, options);
        },
      },
      { retention: 'enforced' },
    );
    const quiet = await stepsOf(enforcing, { immutable: true });
    expect(quiet.step('retention')).toMatchObject({ ok: true, advice: expect.stringContaining('--retention') });
    expect([locked.size, await left()]).toEqual([0, []]);
    const { step } = await stepsOf(enforcing, { immutable: true, retention: true });
    expect(step('retention')).toMatchObject({ ok: true, message: expect.stringContaining('by the store') });
    expect(step('clean up')).toMatchObject({ ok: true, message: expect.stringMatching(/^1 small file stays until 20/) });
    expect([locked.size, (await left()).length]).toEqual([1, 1]);
  });
});
