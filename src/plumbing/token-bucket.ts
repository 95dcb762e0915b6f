// A rate: whoever moves bytes takes them here first, and waits as long as what was taken before is not paid for. The rate may change at any time.
// It must not look at what is moved.

import type { Clock } from './clock.ts';

export interface TokenBucket {
  /** Bytes a second; undefined: as fast as it goes. */
  readonly rate: number | undefined;
  /** Who waits at this moment waits by the new rate from now on. */
  setRate(rate: number | undefined): void;
  /**
   * Resolves when these bytes may be moved, in the order of the calls. What is larger than the rate goes as a whole and is paid for by who comes
   * next, so that any size is possible and the average is exact. A fired signal lets everything through: who stops must not wait.
   */
  take(bytes: number, signal?: AbortSignal): Promise<void>;
  /** Counts bytes that do not wait: what is small, or has moved already. */
  note(bytes: number): void;
}

interface Waiter {
  readonly bytes: number;
  go(): void;
}

/** A second of rest allows this much of one at once, in seconds. */
const BURST_SECONDS = 0.25;
/** No timer of Node is longer; a wait by then has been asked for anew. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export function openTokenBucket(clock: Clock, first?: number): TokenBucket {
  return new Bucket(clock, first);
}

class Bucket implements TokenBucket {
  rate: number | undefined;
  readonly #clock: Clock;
  readonly #waiting: Waiter[] = [];
  /** Bytes that may go at once; below 0: bytes that went and are not paid for. */
  #balance = 0;
  #countedAt: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(clock: Clock, rate: number | undefined) {
    this.#clock = clock;
    this.#countedAt = clock.monotonic();
    this.rate = rate;
  }

  setRate(rate: number | undefined): void {
    if (rate === this.rate) return;
    this.#count();
    this.rate = rate;
    // The debt of a slow time is none of a fast one: what went is gone.
    if (rate === undefined) this.#balance = 0;
    this.#advance();
  }

  async take(bytes: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return;
    this.#count();
    if (this.rate === undefined) return;
    if (this.#waiting.length === 0 && this.#balance >= 0) {
      this.#balance -= bytes;
      return;
    }
    await this.#wait(bytes, signal);
  }

  note(bytes: number): void {
    this.#count();
    if (this.rate !== undefined) this.#balance -= bytes;
  }

  #wait(bytes: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const stop = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        resolve();
        this.#advance();
      };
      const waiter: Waiter = {
        bytes,
        go: () => {
          signal?.removeEventListener('abort', stop);
          resolve();
        },
      };
      signal?.addEventListener('abort', stop, { once: true });
      this.#waiting.push(waiter);
      this.#advance();
    });
  }

  /** Pays what the time since the last look has brought. */
  #count(): void {
    const now = this.#clock.monotonic();
    const seconds = Math.max(0, now - this.#countedAt) / 1000;
    this.#countedAt = now;
    if (this.rate !== undefined) this.#balance = Math.min(this.#balance + seconds * this.rate, this.rate * BURST_SECONDS);
  }

  #advance(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#count();
    for (let next = this.#waiting[0]; next; next = this.#waiting[0]) {
      if (this.rate !== undefined && this.#balance < 0) break;
      this.#waiting.shift();
      if (this.rate !== undefined) this.#balance -= next.bytes;
      next.go();
    }
    if (this.#waiting.length === 0 || this.rate === undefined) return;
    const wait = Math.min(LONGEST_TIMER_MS, Math.ceil((-this.#balance / this.rate) * 1000));
    this.#timer = setTimeout(() => this.#advance(), Math.max(1, wait));
  }
}
