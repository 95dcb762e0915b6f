// How long something that does not answer is left alone before it is tried again.

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 5 * 60_000;

/** Milliseconds: twice as long after each failure, up to five minutes. `failures`: how many came before this one. */
export function pauseAfter(failures: number): number {
  return Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(failures, 16));
}
