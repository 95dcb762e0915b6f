// Does something again that failed for a reason that passes: with pauses that grow and are never the same, and a budget that ends a storm.
// It must not decide what is safe to repeat: the caller does.

import { setTimeout as sleep } from 'node:timers/promises';
import { type Clock, randomFraction, systemClock } from './clock.ts';
import { isChainkeepError } from './errors.ts';

export interface RetryPolicy {
  /** How often it is tried in all; 1 is no repetition. */
  readonly attempts: number;
  /** Milliseconds before the first repetition; twice as long before each further one. */
  readonly firstPause: number;
  readonly longestPause: number;
  /** Milliseconds from the first attempt after which no other one begins. */
  readonly patience: number;
}

export const DEFAULT_RETRY: RetryPolicy = { attempts: 5, firstPause: 200, longestPause: 10_000, patience: 60_000 };

/** Shared by everything that talks to one place: when all of it fails, the first ones have used it up, and the others fail at once. */
export interface RetryBudget {
  /** Answers false when there is none left. */
  spend(): boolean;
  /** Something went well: a tenth of a repetition more. */
  earn(): void;
}

export function openRetryBudget(most = 20): RetryBudget {
  let tenths = most * 10;
  return {
    spend: () => {
      if (tenths < 10) return false;
      tenths -= 10;
      return true;
    },
    earn: () => {
      tenths = Math.min(most * 10, tenths + 1);
    },
  };
}

export interface RetryOptions {
  readonly budget?: RetryBudget;
  readonly clock?: Clock;
  /** Default: what says of itself that it is retryable. */
  readonly isRetryable?: (error: unknown) => boolean;
  /** Is told of each failure that is followed by another attempt. */
  readonly onRetry?: (error: unknown, attempt: number, pause: number) => void;
  readonly signal?: AbortSignal;
  /** From 0 to 1; tests give their own. */
  readonly random?: () => number;
}

/** Throws the error of the last attempt. */
export async function retry<T>(act: (attempt: number) => Promise<T>, policy: RetryPolicy, options: RetryOptions = {}): Promise<T> {
  const { budget, clock = systemClock, isRetryable = saysSo, signal } = options;
  const began = clock.monotonic();
  for (let attempt = 1; ; attempt += 1) {
    try {
      const result = await act(attempt);
      budget?.earn();
      return result;
    } catch (error) {
      const pause = pauseBefore(attempt, policy, options.random ?? randomFraction);
      const late = clock.monotonic() - began + pause > policy.patience;
      if (attempt >= policy.attempts || late || signal?.aborted || !isRetryable(error) || budget?.spend() === false) throw error;
      options.onRetry?.(error, attempt, pause);
      // Stopped meanwhile: what was wrong is told, not that it was waited for.
      await sleep(pause, undefined, signal ? { signal } : {}).catch(() => {
        throw error;
      });
    }
  }
}

/** Between half and all of the doubled pause: clients that failed together do not come back together. */
function pauseBefore(attempt: number, { firstPause, longestPause }: RetryPolicy, random: () => number): number {
  const whole = Math.min(longestPause, firstPause * 2 ** (attempt - 1));
  return Math.round(whole / 2 + (whole / 2) * random());
}

function saysSo(error: unknown): boolean {
  return isChainkeepError(error) && error.retryable;
}
