// Which blocks of src/qcow2 ran since the last look, by V8's own counters.
// It must not be used where the time of single cases matters: a look costs milliseconds.

import { Session } from 'node:inspector/promises';

export class BlockCoverage {
  readonly #session = new Session();
  readonly #seen = new Set<string>();

  async start(): Promise<void> {
    this.#session.connect();
    await this.#session.post('Profiler.enable');
    await this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  get blocks(): number {
    return this.#seen.size;
  }

  /** How many blocks ran since the last call that never ran before; the order of magnitude of their counts makes a block another one. */
  async takeNew(): Promise<number> {
    const { result } = await this.#session.post('Profiler.takePreciseCoverage');
    const before = this.#seen.size;
    for (const { url, functions } of result) {
      if (!url.includes('/src/qcow2/')) continue;
      for (const { ranges } of functions) {
        for (const { startOffset, endOffset, count } of ranges) {
          if (count > 0) this.#seen.add(`${url}:${startOffset}:${endOffset}:${Math.min(3, Math.floor(Math.log10(count)))}`);
        }
      }
    }
    return this.#seen.size - before;
  }

  stop(): void {
    this.#session.disconnect();
  }
}
