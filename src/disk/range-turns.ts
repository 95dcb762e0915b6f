// Work on ranges of a disk: what overlaps follows one another in the order in which it came, everything else runs at once.

import type { ByteRange } from './extent.ts';

interface Turn extends ByteRange {
  readonly over: Promise<void>;
}

export class RangeTurns {
  readonly #turns = new Set<Turn>();

  async run<T>(range: ByteRange, work: () => Promise<T>): Promise<T> {
    // Each waits for those that came before it and for no other, so nobody waits in a circle.
    const before = [...this.#turns].filter((turn) => overlap(turn, range)).map(({ over }) => over);
    const { promise: over, resolve } = Promise.withResolvers<void>();
    const turn = { ...range, over };
    this.#turns.add(turn);
    try {
      await Promise.all(before);
      return await work();
    } finally {
      this.#turns.delete(turn);
      resolve();
    }
  }
}

function overlap(one: ByteRange, other: ByteRange): boolean {
  return one.offset < other.offset + other.length && other.offset < one.offset + one.length;
}
