// What failed for a reason that passes is done again: as often as allowed, with pauses that grow, and not when everything fails at once.

import { describe, expect, it } from 'vitest';
import { ChainkeepError } from '../../src/plumbing/errors.ts';
import { openRetryBudget, type RetryPolicy, retry } from '../../src/plumbing/retry.ts';

const QUICK: RetryPolicy = { attempts: 4, firstPause: 2, longestPause: 5, patience: 10_000 };
const passing = (what: string) => new ChainkeepError('STORE_FAILED', what, { retryable: true });

function failing(times: number, error: (attempt: number) => unknown = (attempt) => passing(`failure ${attempt}`)) {
  const tried: number[] = [];
  const act = async (attempt: number): Promise<string> => {
    tried.push(attempt);
    if (attempt <= times) throw error(attempt);
    return 'done';
  };
  return { act, tried };
}

describe('retry', () => {
  it('tries again until it works, and tells of each failure', async () => {
    const { act, tried } = failing(3);
    const told: string[] = [];
    const onRetry = (error: unknown, attempt: number) => told.push(`${attempt} ${error instanceof Error ? error.message : ''}`);
    expect(await retry(act, QUICK, { onRetry })).toBe('done');
    expect([tried, told]).toEqual([
      [1, 2, 3, 4],
      ['1 failure 1', '2 failure 2', '3 failure 3'],
    ]);
  });

  it('throws the last error when the attempts are used up', async () => {
    const { act, tried } = failing(9);
    await expect(retry(act, QUICK)).rejects.toThrow('failure 4');
    expect(tried.length).toBe(4);
  });

  it('does not repeat what does not say that it passes', async () => {
    for (const error of [new ChainkeepError('BLOB_NOT_FOUND', 'gone'), new Error('bug')]) {
      const { act, tried } = failing(1, () => error);
      await expect(retry(act, QUICK)).rejects.toBe(error);
      expect(tried.length).toBe(1);
    }
  });

  it('pauses twice as long each time, between half and all of it, and never longer than the longest', async () => {
    for (const [random, expected] of [
      [0, [1, 2, 3]],
      [1, [2, 4, 5]],
    ] as const) {
      const pauses: number[] = [];
      const { act } = failing(3);
      await retry(act, QUICK, { random: () => random, onRetry: (_error, _attempt, pause) => pauses.push(pause) });
      expect(pauses).toEqual(expected);
    }
  });

  it('begins no attempt behind its patience', async () => {
    const { act, tried } = failing(9);
    await expect(retry(act, { ...QUICK, patience: 0 })).rejects.toThrow('failure 1');
    expect(tried.length).toBe(1);
  });

  it('ends at once when it is stopped, with what was wrong', async () => {
    const stop = new AbortController();
    const { act, tried } = failing(9);
    const long = { ...QUICK, firstPause: 60_000, longestPause: 60_000, patience: 1e9 };
    const running = retry(act, long, { signal: stop.signal, onRetry: () => setTimeout(() => stop.abort(), 1) });
    await expect(running).rejects.toThrow('failure 1');
    expect(tried.length).toBe(1);
  });

  it('a storm ends with the budget, and what goes well earns it back slowly', async () => {
    const budget = openRetryBudget(3);
    const results = await Promise.allSettled(Array.from({ length: 10 }, () => retry(failing(9).act, QUICK, { budget })));
    expect(results.every(({ status }) => status === 'rejected')).toBe(true);
    const after = failing(9);
    await expect(retry(after.act, QUICK, { budget })).rejects.toThrow('failure 1');
    for (let count = 0; count < 10; count += 1) await retry(failing(0).act, QUICK, { budget });
    const earned = failing(9);
    await expect(retry(earned.act, QUICK, { budget })).rejects.toThrow('failure 2');
  });
});
