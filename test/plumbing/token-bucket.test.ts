// A rate is kept on the average, whatever the sizes; a new rate counts for those who wait already; nobody who stops waits.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Clock } from '../../src/plumbing/clock.ts';
import { openTokenBucket } from '../../src/plumbing/token-bucket.ts';
import { openTurns } from '../../src/plumbing/turns.ts';

const clock: Clock = { now: () => Date.now(), monotonic: () => Date.now(), boot: () => undefined };

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] }));
afterEach(() => void vi.useRealTimers());

/** Milliseconds until all of it went, each piece asked for behind the one before. */
async function timeFor(bucket: ReturnType<typeof openTokenBucket>, pieces: readonly number[], most = 100_000): Promise<number> {
  const began = Date.now();
  let ended: number | undefined;
  const work = (async () => {
    for (const piece of pieces) await bucket.take(piece);
    ended = Date.now() - began;
  })();
  for (let waited = 0; ended === undefined && waited < most; waited += 10) await vi.advanceTimersByTimeAsync(10);
  if (ended === undefined) throw new Error('it still waits');
  await work;
  return ended;
}

describe('a rate', () => {
  it('is kept on the average, for small and for large pieces, and the last one is not waited for', async () => {
    for (const size of [10, 1000, 5000]) {
      const bucket = openTokenBucket(clock, 1000);
      const pieces = Array.from({ length: 20_000 / size }, () => size);
      // What goes last is paid for by nobody; a quarter of a second's worth may go ahead.
      const expected = 20_000 - size;
      const time = await timeFor(bucket, pieces);
      expect(time, `pieces of ${size}`).toBeGreaterThanOrEqual(expected - 260);
      expect(time, `pieces of ${size}`).toBeLessThanOrEqual(expected + 30);
    }
  });

  it('serves those who wait in their order, also several at once', async () => {
    const bucket = openTokenBucket(clock, 1000);
    const order: number[] = [];
    const all = [1, 2, 3, 4].map((who) => bucket.take(1000).then(() => order.push(who)));
    await vi.advanceTimersByTimeAsync(1100);
    expect(order).toEqual([1, 2]);
    await vi.advanceTimersByTimeAsync(2000);
    await Promise.all(all);
    expect(order).toEqual([1, 2, 3, 4]);
  });

  it('that rises counts at once for who waits by the old one', async () => {
    const bucket = openTokenBucket(clock, 10);
    await bucket.take(10_000);
    let went = false;
    const waiting = bucket.take(1).then(() => {
      went = true;
    });
    await vi.advanceTimersByTimeAsync(5000);
    expect(went).toBe(false);
    bucket.setRate(10_000);
    await vi.advanceTimersByTimeAsync(1100);
    await waiting;
    expect(went).toBe(true);
  });

  it('that is lifted lets everybody go, and one that comes later counts from then on', async () => {
    const bucket = openTokenBucket(clock, 10);
    await bucket.take(1_000_000);
    const waiting = [bucket.take(1), bucket.take(1)];
    bucket.setRate(undefined);
    await Promise.all(waiting);
    expect(
      await timeFor(
        bucket,
        Array.from({ length: 10 }, () => 1_000_000),
      ),
    ).toBe(0);
    bucket.setRate(1000);
    expect(await timeFor(bucket, [1000, 1000, 1000])).toBeGreaterThanOrEqual(1900);
  });

  it('is not saved up: an hour of rest allows a quarter of a second at once', async () => {
    const bucket = openTokenBucket(clock, 1000);
    await vi.advanceTimersByTimeAsync(3_600_000);
    expect(await timeFor(bucket, [250, 250, 250, 250, 250])).toBeGreaterThanOrEqual(740);
  });

  it('what is counted without waiting is paid for by the next', async () => {
    const bucket = openTokenBucket(clock, 1000);
    bucket.note(2000);
    expect(await timeFor(bucket, [1])).toBeGreaterThanOrEqual(1990);
  });

  it('holds nobody up who stops, and serves those behind him', async () => {
    const bucket = openTokenBucket(clock, 10);
    await bucket.take(100);
    const stop = new AbortController();
    const stopped = bucket.take(1000, stop.signal);
    let behind = false;
    const last = bucket.take(1).then(() => {
      behind = true;
    });
    stop.abort();
    await stopped;
    await bucket.take(1000, stop.signal);
    await vi.advanceTimersByTimeAsync(10_100);
    await last;
    expect(behind).toBe(true);
  });
});

describe('turns', () => {
  it('are so many at once, in order, and more of them when the number rises', async () => {
    const turns = openTurns(2);
    let running = 0;
    let most = 0;
    const ends: (() => void)[] = [];
    const work = Array.from({ length: 6 }, () =>
      turns.run(async () => {
        running += 1;
        most = Math.max(most, running);
        await new Promise<void>((resolve) => ends.push(resolve));
        running -= 1;
      }),
    );
    const settle = () => vi.advanceTimersByTimeAsync(0);
    await settle();
    expect([running, most]).toEqual([2, 2]);
    ends.shift()?.();
    await settle();
    expect([running, most]).toEqual([2, 2]);
    turns.setMost(4);
    await settle();
    expect(running).toBe(4);
    turns.setMost(1);
    for (let end = ends.shift(); end; end = ends.shift()) {
      end();
      await settle();
    }
    await Promise.all(work);
    expect([running, most]).toEqual([0, 4]);
  });

  it('a failed one gives its place back', async () => {
    const turns = openTurns(1);
    await expect(turns.run(() => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await turns.run(async () => 'next')).toBe('next');
  });
});
