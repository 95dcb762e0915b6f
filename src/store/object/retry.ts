// How requests to object stores are repeated: more often than elsewhere, because a backup of hours must not end for one of a million requests.
// It must not decide what may pass: that is the store's knowledge of its errors.

import { ChainkeepError, isChainkeepError, throwIfCancelled } from '../../plumbing/errors.ts';
import { openRetryBudget, type RetryBudget, type RetryPolicy, retry } from '../../plumbing/retry.ts';

export const OBJECT_RETRY: RetryPolicy = { attempts: 6, firstPause: 100, longestPause: 10_000, patience: 180_000 };

/** One for each store: a server that is down is not asked six times for every part of every disk. */
export const openObjectBudget = (): RetryBudget => openRetryBudget(100);

export interface ObjectRetry {
  readonly policy: RetryPolicy;
  readonly budget: RetryBudget;
  readonly signal?: AbortSignal;
}

/** `work` throws errors of this house; those that are `retryable` are tried again. It is told which attempt it is, from 1. CANCELLED by the signal. */
export async function repeatRequest<T>(work: (attempt: number) => Promise<T>, { policy, budget, signal }: ObjectRetry): Promise<T> {
  let attempts = 0;
  const attempt = (count: number): Promise<T> => {
    throwIfCancelled(signal);
    attempts = count;
    return work(count);
  };
  try {
    return await retry(async (count) => attempt(count), policy, { budget, ...(signal && { signal }) });
  } catch (error) {
    throwIfCancelled(signal);
    throw isChainkeepError(error) && error.retryable ? givenUp(error, attempts) : error;
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
