// What every sink keeps to, wherever its bytes go: appends, then one `finish`, or an `abort`; after the first failure nothing succeeds any more.
// It knows nothing of bytes and places.

import { assert } from '../plumbing/errors.ts';

export class SinkLife {
  readonly #name: string;
  readonly #headLength: number;
  #state: 'open' | 'finishing' | 'finished' | 'aborted' = 'open';
  #failure: { readonly error: unknown } | undefined;
  #pending = 0;
  #finishing: Promise<unknown> = Promise.resolve();

  constructor(name: string, headLength: number) {
    this.#name = name;
    this.#headLength = headLength;
  }

  /** Throws unless bytes may be appended now. */
  checkOpen(): void {
    this.checkAlive();
    assert(this.#state === 'open', `write to ${this.#name}, which is ${this.#state}`);
  }

  /** For work in the midst of an append or of `finish`: throws when something failed, or it was aborted, meanwhile. */
  checkAlive(): void {
    if (this.#failure) throw this.#failure.error;
    assert(this.#state !== 'aborted', `write to ${this.#name}, which is aborted`);
  }

  /** The first failure is the answer to everything after it. */
  fail(error: unknown): unknown {
    this.#failure ??= { error };
    return this.#failure.error;
  }

  /** An append. `work` begins at once, and throws what `fail` has answered. */
  async append(work: () => Promise<void>): Promise<void> {
    this.#pending += 1;
    try {
      await work();
    } finally {
      this.#pending -= 1;
    }
  }

  /** `work` throws what `fail` has answered. */
  async finish<T>(head: Uint8Array, work: () => Promise<T>): Promise<T> {
    this.checkOpen();
    assert(this.#pending === 0, `finish of ${this.#name} while appends are under way`);
    assert(head.byteLength === this.#headLength, `head of ${this.#name}: ${head.byteLength} bytes, ${this.#headLength} were announced`);
    this.#state = 'finishing';
    const run = work().then((result) => {
      this.#state = 'finished';
      return result;
    });
    this.#finishing = run.catch(() => undefined); // for abort to wait on; the caller of finish gets the error
    return run;
  }

  /** Answers whether there is something to take back. `stop` breaks off what is on its way, if that can be done; a `finish` under way is waited for. */
  async abort(stop: () => void = () => undefined): Promise<boolean> {
    if (this.#state === 'finishing') {
      stop();
      await this.#finishing;
    }
    if (this.#state === 'finished' || this.#state === 'aborted') return false;
    this.#state = 'aborted';
    stop();
    return true;
  }
}
