// Walks a range by BLOCK_STATUS requests, and joins neighbours of which the server says the same.

import type { ByteRange } from '../../disk/extent.ts';
import { protocolBreach } from '../protocol/breach.ts';
import { BASE_ALLOCATION } from '../protocol/meta-context.ts';
import type { ConnectionPool } from './connection-pool.ts';

export interface ContextRange {
  readonly offset: number;
  readonly length: number;
  /** Bits that the context defines. */
  readonly flags: number;
}

/** Fits 32 bits, and is a multiple of every block size. */
const MOST_COMPACT = 2 ** 32 - 65_536;

export async function* contextRanges(pool: ConnectionPool, context: string, range: ByteRange): AsyncGenerator<ContextRange> {
  const { minimum } = pool.facts.blockSize;
  const end = range.offset + range.length;
  // Flags that are no safe integer would pass for none wherever a bit of them is asked for.
  const mostFlags = context === BASE_ALLOCATION ? 0xffff_ffff : Number.MAX_SAFE_INTEGER;
  let waiting: ContextRange | undefined;
  for (let at = range.offset; at < end; ) {
    const start = at - (at % minimum);
    const wanted = Math.ceil(end / minimum) * minimum - start;
    const before = at;
    // A server that comes back may take other headers than before.
    const found = await pool.run((connection) =>
      connection.blockStatus(start, connection.extended ? wanted : Math.min(wanted, MOST_COMPACT)),
    );
    let reached = start;
    for (const descriptor of found.get(context) ?? []) {
      if (descriptor.flags > mostFlags) throw protocolBreach(`${context} with bits that it cannot have`);
      reached += descriptor.length;
      const stop = Math.min(end, reached);
      if (stop <= at) continue;
      const next = { offset: at, length: stop - at, flags: descriptor.flags };
      at = stop;
      if (waiting?.flags === next.flags) {
        waiting = { ...waiting, length: waiting.length + next.length };
        continue;
      }
      if (waiting) yield waiting;
      waiting = next;
    }
    // Stretches are multiples of the smallest block: an answer goes on from here, also where the range begins inside of a block.
    if (at === before) throw protocolBreach('a block status that says nothing of the place that was asked for', { offset: start });
  }
  if (waiting) yield waiting;
}
