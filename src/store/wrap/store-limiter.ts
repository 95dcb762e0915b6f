// How fast and how much at once a repository may be used by this process: one for all stores that are opened for it, adjustable while they are used.
// It must not know what moves.

import type { Clock } from '../../plumbing/clock.ts';
import { openTokenBucket, type TokenBucket } from '../../plumbing/token-bucket.ts';
import { openTurns, type Turns } from '../../plumbing/turns.ts';

/** Left out: no limit. */
export interface StoreLimits {
  readonly upload_bytes_per_second?: number;
  readonly download_bytes_per_second?: number;
  readonly concurrent_operations?: number;
}

export interface StoreLimiter {
  readonly upload: TokenBucket;
  readonly download: TokenBucket;
  readonly turns: Turns;
  /** `processes`: that use the repository at this moment, this one among them; each takes its part. */
  set(limits: StoreLimits, processes?: { readonly writing: number; readonly reading: number }): void;
}

export function openStoreLimiter(clock: Clock, first: StoreLimits = {}): StoreLimiter {
  const limiter: StoreLimiter = {
    upload: openTokenBucket(clock),
    download: openTokenBucket(clock),
    turns: openTurns(),
    set: (limits, { writing, reading } = { writing: 1, reading: 1 }) => {
      limiter.upload.setRate(partOf(limits.upload_bytes_per_second, writing));
      limiter.download.setRate(partOf(limits.download_bytes_per_second, reading));
      limiter.turns.setMost(partOf(limits.concurrent_operations, Math.max(writing, reading)));
    },
  };
  limiter.set(first);
  return limiter;
}

function partOf(whole: number | undefined, parts: number): number | undefined {
  return whole === undefined ? undefined : Math.max(1, Math.floor(whole / Math.max(1, parts)));
}
