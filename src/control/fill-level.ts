// When a repository counts as nearly full and as full. Pure functions over what its store tells.

import type { StoreCapacity } from '../store/blob-store.ts';

/** Percent of what can be used from which a person should be told, and from which no backup begins. */
export const WARN_AT = 90;
export const REFUSE_AT = 95;

export type FillLevel = 'unknown' | 'ok' | 'warning' | 'full';

/**
 * Percent, with one decimal. Of what is used and what is free for us: what a file system keeps for root, or a server for others, is neither.
 */
export function usedPercentage({ totalBytes, usedBytes, availableBytes }: StoreCapacity): number {
  const all = usedBytes + availableBytes;
  return totalBytes > 0 && all > 0 ? Math.round((usedBytes / all) * 1000) / 10 : 0;
}

/** `unknown` where the store does not tell: the first write will. */
export function fillLevel(capacity: StoreCapacity | undefined): FillLevel {
  if (!capacity || capacity.totalBytes === 0) return 'unknown';
  const percentage = usedPercentage(capacity);
  if (capacity.availableBytes === 0 || percentage >= REFUSE_AT) return 'full';
  return percentage >= WARN_AT ? 'warning' : 'ok';
}
