// What every sink keeps to, wherever its bytes go: appends, then one `finish`, or an `abort`; after the first failure nothing succeeds any more.
// It knows nothing of bytes and places.

import { assert, ChainkeepError } from '../plumbing/errors.ts';

export class SinkLife {
  readonly #name: string;
  readonly #headLength: number;
  readonly #meet: (error: unknown) => unknown;
  #state: 'open' | 'finishing' | 'finished' | 'aborted' = 'open';
  #failure: { readonly error: unknown } | undefined;
  #pending = 0;
  #finishing: Promise<unknown> = Promise.resolve();

  /** `meet` is told of every error of an append or of `finish`, does what is to be done about it, and answers, also later, what it is to be called. */
  constructor(name: string, headLength: number, meet: (error: unknown) => unknown = (error) => error) {
    this.#name = name;
    this.#headLength = headLength;
    this.#meet = meet;
  }

  /** Throws unless bytes may be appended now. */
  checkOpen(): void {
    if (this.#failure) throw this.#failure.error;
    assert(this.#state === 'open', `write to ${this.#name}, which is ${this.#state}`);
  }

  /** For work in the midst of an append or of `finish`: throws when something failed meanwhile, and CANCELLED when it was aborted. */
  checkAlive(): void {
    if (this.#failure) throw this.#failure.error;
    if (this.#state === 'aborted') throw new ChainkeepError('CANCELLED', `the write of ${this.#name} was aborted`);
  }

  /** The first failure is the answer to everything after it. */
  fail(error: unknown): unknown {
    this.#failure ??= { error };
    return this.#failure.error;
  }

  /** An append. `work` begins at once. */
  async append(work: () => Promise<void>): Promise<void> {
    this.#pending += 1;
    try {
      await this.#failing(work);
    } finally {
      this.#pending -= 1;
    }
  }

  async #failing<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw this.fail(await this.#meet(error));
    }
  }

  async finish<T>(head: Uint8Array, work: () => Promise<T>): Promise<T> {
    this.checkOpen();
    assert(this.#pending === 0, `finish of ${this.#name} while appends are under way`);
    assert(head.byteLength === this.#headLength, `head of ${this.#name}: ${head.byteLength} bytes, ${this.#headLength} were announced`);
    this.#state = 'finishing';
    const run = this.#failing(work).then((result) => {
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
