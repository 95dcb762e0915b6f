// When a repository counts as nearly full and as full. Pure functions over what its store tells.
// It must not believe a store that says "nothing free": some shares always do.

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

/** `unknown` also where the store says that nothing at all is free: an SMB share may say so and take gigabytes. The first write will tell. */
export function fillLevel(capacity: StoreCapacity | undefined): FillLevel {
  if (!capacity || capacity.totalBytes === 0 || capacity.availableBytes === 0) return 'unknown';
  const percentage = usedPercentage(capacity);
  if (percentage >= REFUSE_AT) return 'full';
  return percentage >= WARN_AT ? 'warning' : 'ok';
}
