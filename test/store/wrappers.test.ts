// What each wrapper adds to a store: repeats what may be repeated and nothing else, keeps rates, tells, counts, refuses.

import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../src/plumbing/clock.ts';
import { ChainkeepError } from '../../src/plumbing/errors.ts';
import type { Logger } from '../../src/plumbing/logger.ts';
import type { RetryPolicy } from '../../src/plumbing/retry.ts';
import type { BlobStore } from '../../src/store/blob-store.ts';
import { openLocalStore } from '../../src/store/local/local-store.ts';
import { type FaultPlan, faultyStore } from '../../src/store/testing/faulty-store.ts';
import { codeOf, listLeftovers, patternBytes, readBlob } from '../../src/store/testing/store-probe.ts';
import { listNames, writeBlob } from '../../src/store/trial.ts';
import { aroundStore, type StoreOperation } from '../../src/store/wrap/around-store.ts';
import { readOnly } from '../../src/store/wrap/read-only.ts';
import { openStoreLimiter } from '../../src/store/wrap/store-limiter.ts';
import { withLimits } from '../../src/store/wrap/with-limits.ts';
import { withLogging } from '../../src/store/wrap/with-logging.ts';
import { type StoreMetrics, withMetrics } from '../../src/store/wrap/with-metrics.ts';
import { withRetry } from '../../src/store/wrap/with-retry.ts';

const QUICK: RetryPolicy = { attempts: 3, firstPause: 1, longestPause: 2, patience: 10_000 };
const passing = (operation: StoreOperation) => new ChainkeepError('STORE_FAILED', `the line is bad: ${operation}`, { retryable: true });

async function openInner(): Promise<BlobStore> {
  const path = await mkdtemp(join('/dev/shm', 'chainkeep-wrap-'));
  onTestFinished(() => rm(path, { recursive: true }));
  return openLocalStore(path, { create: false });
}

/** With retry around a store that fails as planned, with an error that passes. */
function retrying(inner: BlobStore, plan: FaultPlan, policy = QUICK) {
  const faulty = faultyStore(inner, { error: passing, ...plan });
  return { store: withRetry(faulty.store, policy), operations: faulty.operations };
}

describe('with retry', () => {
  it('a read, a question or a delete that failed once succeeds', async () => {
    const inner = await openInner();
    await writeBlob(inner, 'a/b', 'content');
    const reads: readonly [StoreOperation, (store: BlobStore) => Promise<unknown>, unknown][] = [
      ['stat', async (store) => (await store.stat('a/b'))?.size, 7],
      ['open', async (store) => String(await readBlob(store, 'a/b')), 'content'],
      ['read', async (store) => String(await readBlob(store, 'a/b')), 'content'],
      ['list', (store) => listNames(store), ['a/b']],
      ['capacity', async (store) => (await store.capacity()) !== undefined, true],
      ['delete', async (store) => store.delete('a/b').then(() => listNames(inner)), []],
    ];
    for (const [operation, act, expected] of reads) {
      const { store, operations } = retrying(inner, { failAt: 1, operations: [operation] });
      expect(await act(store), operation).toEqual(expected);
      expect(operations.length, operation).toBe(2);
    }
  });

  it('a put that could not begin is begun again', async () => {
    const inner = await openInner();
    const { store } = retrying(inner, { failAt: 1, operations: ['put'] });
    await writeBlob(store, 'a', 'content', { ifAbsent: true });
    expect(String(await readBlob(inner, 'a'))).toBe('content');
    expect(await listLeftovers(inner)).toEqual([]);
  });

  it('an append, a finish and a sweep are never repeated, also when only their answer was lost', async () => {
    for (const operation of ['append', 'finish', 'sweep'] as const) {
      for (const effect of ['before', 'after'] as const) {
        const inner = await openInner();
        const faulty = faultyStore(inner, { failAt: 1, operations: [operation], effect, error: passing });
        // Counted in front of the fault: a sink that has failed answers with the same error again, and would hide a repetition.
        let calls = 0;
        const counted = aroundStore(faulty.store, {
          around: (call, act) => {
            if (call.operation === operation) calls += 1;
            return act();
          },
        });
        const store = withRetry(counted, QUICK);
        const act = operation === 'sweep' ? store.sweep('', () => true) : writeBlob(store, 'a', 'content', { ifAbsent: true });
        await expect(act, `${operation} ${effect}`).rejects.toThrow('the line is bad');
        expect(calls, `${operation} ${effect}`).toBe(1);
        expect(await listLeftovers(inner)).toEqual([]);
      }
    }
  });

  it('a create whose answer was lost is an error with the blob there, and not BLOB_EXISTS: who wrote it decides', async () => {
    const inner = await openInner();
    const { store } = retrying(inner, { failAt: 1, operations: ['finish'], effect: 'after' });
    const sink = await store.put('a', { ifAbsent: true });
    await sink.append([Buffer.from('mine')]);
    expect(await codeOf(sink.finish(new Uint8Array(0)))).toBe('STORE_FAILED');
    expect(String(await readBlob(inner, 'a'))).toBe('mine');
  });

  it('a delete whose answer was lost does not take away what another one wrote since', async () => {
    const inner = await openInner();
    await writeBlob(inner, 'a', 'mine');
    const faulty = faultyStore(inner, { failAt: 1, operations: ['delete'], effect: 'after', error: passing });
    const rewriting: BlobStore = {
      ...faulty.store,
      delete: async (name) => {
        try {
          await faulty.store.delete(name);
        } catch (error) {
          await writeBlob(inner, 'a', 'that of somebody else', { ifAbsent: true });
          throw error;
        }
      },
    };
    await withRetry(rewriting, QUICK).delete('a');
    expect(String(await readBlob(inner, 'a'))).toBe('that of somebody else');
    expect(faulty.operations.length).toBe(1);
  });

  it('a listing that broke off goes on behind its last blob, without one twice and without a gap', async () => {
    const inner = await openInner();
    const names = Array.from({ length: 40 }, (_, index) => `l/${String(index).padStart(2, '0')}`);
    for (const name of names) await writeBlob(inner, name, 'x');
    let breaks = 0;
    const breaking: BlobStore = {
      ...inner,
      capabilities: inner.capabilities,
      list: async function* (prefix) {
        let seen = 0;
        for await (const blob of inner.list(prefix)) {
          if (breaks < 3 && seen === 10 * (breaks + 1)) {
            breaks += 1;
            throw passing('list');
          }
          seen += 1;
          yield blob;
        }
      },
    };
    expect(await listNames(withRetry(breaking, QUICK), 'l/')).toEqual(names);
    expect(breaks).toBe(3);
  });

  it('what does not pass is thrown at once, and what goes on failing with its own error', async () => {
    const inner = await openInner();
    const lasting = retrying(inner, { failAt: 1, operations: ['stat'], sticky: true });
    expect(await codeOf(lasting.store.stat('a'))).toBe('STORE_FAILED');
    expect(lasting.operations.length).toBe(3);
    const broken = faultyStore(inner, { failAt: 1, operations: ['stat'] });
    expect(await codeOf(withRetry(broken.store, QUICK).stat('a'))).toBe('STORE_FAILED');
    expect(broken.operations.length).toBe(1);
  });
});

const RATE = 5_000_000;

describe('with limits', () => {
  it('writes and reads at the rate that is set, and follows a new one while it is used', async () => {
    const inner = await openInner();
    const limiter = openStoreLimiter(systemClock, { upload_bytes_per_second: RATE, download_bytes_per_second: RATE });
    const store = withLimits(inner, limiter);
    const piece = patternBytes(500_000);
    const began = performance.now();
    const sink = await store.put('a');
    for (let count = 0; count < 20; count += 1) await sink.append([piece]);
    const seconds = (performance.now() - began) / 1000;
    // All but the first piece, which goes at once, and what a quarter of a second saves up. A slow machine is slower, never faster.
    expect((10_000_000 - piece.length - RATE / 4) / seconds).toBeLessThan(RATE * 1.05);
    limiter.set({});
    const fast = performance.now();
    for (let count = 0; count < 40; count += 1) await sink.append([piece]);
    expect((performance.now() - fast) / 1000).toBeLessThan(4); // by the old rate: four seconds
    await sink.finish(new Uint8Array(0));
    limiter.set({ download_bytes_per_second: RATE });
    const source = await store.open('a');
    const reading = performance.now();
    for (let count = 0; count < 8; count += 1) await source.read(Buffer.alloc(500_000), count * 500_000);
    expect((performance.now() - reading) / 1000).toBeGreaterThan((8 * 500_000 - 500_000 - RATE / 4) / (RATE * 1.05));
    await source.close();
  });

  it('what is small does not wait behind what is large, and is counted', async () => {
    const limiter = openStoreLimiter(systemClock, { upload_bytes_per_second: 1000, download_bytes_per_second: 1000 });
    const store = withLimits(await openInner(), limiter);
    await writeBlob(store, 'large', patternBytes(1_000_000)); // a debt of a quarter of an hour
    const began = performance.now();
    for (let count = 0; count < 5; count += 1) {
      await writeBlob(store, `small/${count}`, patternBytes(10_000));
      await readBlob(store, `small/${count}`);
    }
    expect(performance.now() - began).toBeLessThan(5000);
    const sink = await store.put('next');
    const late = sink.append([patternBytes(100_000)]).then(() => 'went');
    expect(await Promise.race([late, new Promise((resolve) => setTimeout(resolve, 100, 'waits'))])).toBe('waits');
    limiter.set({});
    expect(await late).toBe('went');
    await sink.abort();
  });

  it('takes no descriptor away without a limit, and gives none with one', async () => {
    const limiter = openStoreLimiter(systemClock);
    const inner = await openInner();
    const store = withLimits(inner, limiter);
    await writeBlob(store, 'a', 'content');
    const given = async () => {
      const sink = await store.put('b');
      const source = await store.open('a');
      await sink.abort();
      await source.close();
      return [sink.direct !== undefined, source.fd !== undefined];
    };
    expect(await given()).toEqual([true, true]);
    limiter.set({ upload_bytes_per_second: 1000 });
    expect(await given()).toEqual([false, true]);
    limiter.set({ download_bytes_per_second: 1000 });
    expect(await given()).toEqual([true, false]);
    limiter.set({ concurrent_operations: 4 });
    expect(await given()).toEqual([false, false]);
    limiter.set({});
    expect(await given()).toEqual([true, true]);
  });

  it('a descriptor that threads have already is slowed by whoever gives them work', async () => {
    const limiter = openStoreLimiter(systemClock);
    const store = withLimits(await openInner(), limiter);
    const sink = await store.put('a');
    const source = await writeBlob(store, 'b', 'content').then(() => store.open('b'));
    const { direct } = sink;
    if (!direct) throw new Error('there is no descriptor');
    Atomics.add(direct.next, 0, 1_000_000n);
    expect([direct.pace?.(), source.pace?.(1_000_000)]).toEqual([undefined, undefined]);
    limiter.set({ upload_bytes_per_second: 1000, download_bytes_per_second: 1000 });
    Atomics.add(direct.next, 0, 500_000n);
    await direct.pace?.();
    await source.pace?.(500_000);
    Atomics.add(direct.next, 0, 1n);
    const waits = [direct.pace?.(), source.pace?.(1)];
    expect(await Promise.race([...waits, new Promise((resolve) => setTimeout(resolve, 100, 'waits'))])).toBe('waits');
    limiter.set({});
    await Promise.all(waits);
    await source.close();
    await sink.abort();
  });

  it('does so many operations at once and no more, also while a listing is used', async () => {
    let running = 0;
    let most = 0;
    const inner = await openInner();
    const slow: BlobStore = {
      ...withMetrics(inner, {}, systemClock),
      stat: async () => {
        running += 1;
        most = Math.max(most, running);
        await new Promise((resolve) => setTimeout(resolve, 2));
        running -= 1;
        return undefined;
      },
    };
    const limiter = openStoreLimiter(systemClock, { concurrent_operations: 3 });
    const store = withLimits(slow, limiter);
    await Promise.all(Array.from({ length: 20 }, (_, index) => store.stat(`a${index}`)));
    expect(most).toBe(3);
    limiter.set({ concurrent_operations: 1 });
    for (const name of ['a', 'b', 'c']) await writeBlob(store, name, name);
    for await (const { name } of store.list('')) await readBlob(store, name); // one at a time, and no deadlock
  });

  it('processes at work on one repository share its limits', () => {
    const limiter = openStoreLimiter(systemClock);
    const whole = { upload_bytes_per_second: 900, download_bytes_per_second: 100, concurrent_operations: 4 };
    limiter.set(whole, { writing: 3, reading: 1 });
    expect([limiter.upload.rate, limiter.download.rate, limiter.turns.most]).toEqual([300, 100, 1]);
    limiter.set({ concurrent_operations: 1 }, { writing: 3, reading: 1 });
    expect([limiter.upload.rate, limiter.download.rate, limiter.turns.most]).toEqual([undefined, undefined, 1]);
  });

  it('what was stopped waits for nothing', async () => {
    const stop = new AbortController();
    const store = withLimits(await openInner(), openStoreLimiter(systemClock, { upload_bytes_per_second: 1 }), stop.signal);
    const sink = await store.put('a');
    await sink.append([patternBytes(100_000)]);
    const waiting = sink.append([patternBytes(100_000)]);
    stop.abort();
    await waiting;
    await sink.abort();
  });
});

describe('with logging', () => {
  it('tells of each call, its time and its failure, and nothing of what is in the blobs', async () => {
    const lines: { level: string; message: string; attrs: Readonly<Record<string, unknown>> | undefined }[] = [];
    const logger: Logger = { log: (level, message, attrs) => lines.push({ level, message, attrs }) };
    const store = withLogging(await openInner(), logger, systemClock);
    await writeBlob(store, 'a', 'hush-hush');
    await readBlob(store, 'a');
    await listNames(store);
    expect(await codeOf(store.open('b'))).toBe('BLOB_NOT_FOUND');
    expect(lines.map(({ level, message }) => `${level} ${message}`)).toEqual([
      ...['debug store: put a', 'debug store: append a', 'debug store: finish a'],
      ...['debug store: open a', 'debug store: read a', 'debug store: list', 'debug store: open b'],
    ]);
    expect(lines.every(({ attrs }) => typeof attrs?.duration_ms === 'number')).toBe(true);
    expect(lines[1]?.attrs).toMatchObject({ bytes: 9 });
    expect(lines[5]?.attrs).toMatchObject({ blobs: 1 });
    expect(lines[6]?.attrs).toMatchObject({ code: 'BLOB_NOT_FOUND' });
    expect(JSON.stringify(lines)).not.toContain('hush');
  });
});

describe('with metrics', () => {
  it('counts calls, errors, bytes and time, and what threads wrote when the blob is finished', async () => {
    const metrics: StoreMetrics = {};
    const store = withMetrics(await openInner(), metrics, systemClock);
    await writeBlob(store, 'a', patternBytes(1000), { headLength: 10 });
    await readBlob(store, 'a');
    await listNames(store);
    expect(await codeOf(store.open('b'))).toBe('BLOB_NOT_FOUND');
    const sink = await store.put('c');
    if (!sink.direct) throw new Error('there is no descriptor');
    const { writeSync } = await import('node:fs');
    Atomics.add(sink.direct.next, 0, 5n);
    writeSync(sink.direct.fd, Buffer.from('12345'), 0, 5, 0);
    await sink.append([Buffer.from('678')]);
    await sink.finish(new Uint8Array(0));
    expect(metrics).toMatchObject({
      put: { calls: 2, errors: 0 },
      append: { calls: 2, bytes: 993 },
      finish: { calls: 2, bytes: 15 },
      open: { calls: 2, errors: 1 },
      read: { calls: 1, bytes: 1000 },
      list: { calls: 1, errors: 0 },
    });
    expect((metrics.append?.bytes ?? 0) + (metrics.finish?.bytes ?? 0)).toBe(1008);
    for (const counted of Object.values(metrics)) expect(counted.milliseconds).toBeGreaterThanOrEqual(0);
  });
});

describe('read-only', () => {
  it('refuses every write before the store hears of it, and reads as before', async () => {
    const inner = await openInner();
    await writeBlob(inner, 'a', 'content');
    const sink = await inner.put('b');
    const store = readOnly(inner);
    const writes = [
      () => store.put('c'),
      () => store.put('a', { ifAbsent: true }),
      () => store.delete('a'),
      () => store.protect('a', { hold: true }),
      () => store.release('a'),
      () => store.sweep('', () => true),
    ];
    for (const write of writes) expect(await codeOf(write().then(() => undefined))).toBe('REPOSITORY_READ_ONLY');
    expect([await listNames(store), String(await readBlob(store, 'a')), (await listLeftovers(store)).length]).toEqual([
      ['a'],
      'content',
      1,
    ]);
    await expect(store.put('a')).rejects.toThrow(/nothing is written to .*: it is open for reading alone/);
    await sink.abort();
  });
});
