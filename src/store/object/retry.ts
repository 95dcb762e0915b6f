// Tries a request again where it may pass: waits longer each time, never longer than is sensible, and not at all once a store has failed too often.
// It must not decide what may pass: that is the store's knowledge of its errors.

import { setTimeout as sleep } from 'node:timers/promises';
import { randomFraction } from '../../plumbing/clock.ts';
import { ChainkeepError, isChainkeepError, throwIfCancelled } from '../../plumbing/errors.ts';

export interface RetryPolicy {
  /** How often a request is sent at most. */
  readonly attempts: number;
  /** Milliseconds before the second attempt at most; the double for each later one. */
  readonly firstDelay: number;
  readonly mostDelay: number;
}

export const DEFAULT_RETRY: RetryPolicy = { attempts: 6, firstDelay: 100, mostDelay: 10_000 };

const MOST_TOKENS = 100;
const REFUND = 0.1;

/**
 * What a store may spend on repetitions: each costs a token, ten requests that pass earn one. A server that is down is not asked six times
 * for every part of every disk, and one that stumbles now and then is asked as often as it takes.
 */
export class RetryBudget {
  #tokens = MOST_TOKENS;

  spend(): boolean {
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }

  earn(): void {
    this.#tokens = Math.min(MOST_TOKENS, this.#tokens + REFUND);
  }
}

export interface RetryOptions {
  readonly policy: RetryPolicy;
  readonly budget: RetryBudget;
  readonly signal?: AbortSignal;
}

/** `work` throws errors of this house; those that are `retryable` are tried again. It is told which attempt it is, from 1. */
export async function withRetry<T>(work: (attempt: number) => Promise<T>, { policy, budget, signal }: RetryOptions): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    throwIfCancelled(signal);
    try {
      const answer = await work(attempt);
      budget.earn();
      return answer;
    } catch (error) {
      if (!isChainkeepError(error) || !error.retryable || signal?.aborted) throw error;
      if (attempt >= policy.attempts || !budget.spend()) throw givenUp(error, attempt);
    }
    const most = Math.min(policy.mostDelay, policy.firstDelay * 2 ** (attempt - 1));
    // Somewhere between half of it and all of it: clients that failed together do not come back together.
    await sleep(most * (0.5 + randomFraction() / 2), undefined, signal ? { signal } : {}).catch(() => throwIfCancelled(signal));
  }
}

/** It was tried as often as makes sense; nobody above shall begin again. */
function givenUp(error: ChainkeepError, attempts: number): ChainkeepError {
  const { advice, context, cause } = error;
  return new ChainkeepError(error.code, error.message, {
    retryable: false,
    cause,
    context: { ...context, attempts },
    ...(advice !== undefined && { advice }),
  });
}
