// Something that must get ahead from time to time, or it is given up.
// Costs next to nothing for each step forward: only the time is noted, and looked at when the limit is over.

export class Watchdog {
  readonly #limit: number;
  readonly #expired: () => void;
  #timer: NodeJS.Timeout | undefined;
  #last = 0;

  /** `limit` in milliseconds. */
  constructor(limit: number, expired: () => void) {
    this.#limit = limit;
    this.#expired = expired;
  }

  /** Begins to wait, or notes a step forward. */
  touch(): void {
    this.#last = performance.now();
    this.#timer ??= this.#arm(this.#limit);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #arm(milliseconds: number): NodeJS.Timeout {
    return setTimeout(() => {
      const left = this.#limit - (performance.now() - this.#last);
      this.#timer = undefined;
      if (left > 0) this.#timer = this.#arm(left);
      else this.#expired();
    }, Math.ceil(milliseconds));
  }
}
