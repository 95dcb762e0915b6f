// What is known of a reply while its chunks come in: for each kind of request, what may come, and when it is complete.
// A server may send chunks in any order and in any number; what does not fit the request is a breach.

import type { BlockStatus } from '../protocol/block-status.ts';
import { protocolBreach } from '../protocol/breach.ts';
import { commandName, type Request } from '../protocol/request.ts';

export interface PendingAnswer {
  readonly request: Request;
  /** Where the bytes of `[offset, offset + length)` belong. Throws NBD_PROTOCOL when they do not. */
  place(offset: number, length: number): Uint8Array;
  status(status: BlockStatus): void;
  /** Throws NBD_PROTOCOL when something is missing. */
  complete(): void;
}

/** A request that is answered by a word alone. */
export function pendingWord(request: Request): PendingAnswer {
  return {
    request,
    place: () => {
      throw protocolBreach(`data in answer to ${commandName(request.command)}`);
    },
    status: () => {
      throw protocolBreach(`a block status in answer to ${commandName(request.command)}`);
    },
    complete: () => undefined,
  };
}

/** A server may cut a reply as it likes, but not so finely that keeping count costs more than the data. */
const MOST_CHUNKS_PER_KIB = 8;

/** A READ: `buffer` is as long as the request, and every byte of it comes exactly once. */
export function pendingRead(request: Request, buffer: Uint8Array): PendingAnswer {
  /** Ascending, without neighbours that touch: from, to. */
  const covered: [number, number][] = [];
  let chunks = 0;
  const mostChunks = 16 + Math.ceil(buffer.length / 1024) * MOST_CHUNKS_PER_KIB;
  return {
    ...pendingWord(request),
    place(offset, length) {
      const start = offset - request.offset;
      if (!(start >= 0 && length > 0 && start + length <= request.length))
        throw protocolBreach('data outside of what was asked for', {
          offset,
          length,
          wanted: request.offset,
          wanted_length: request.length,
        });
      if (++chunks > mostChunks) throw protocolBreach(`an answer to READ in more than ${mostChunks} pieces`, { length: request.length });
      cover(covered, start, start + length, offset);
      return buffer.subarray(start, start + length);
    },
    complete() {
      if (request.length === 0) return;
      const [first] = covered;
      if (covered.length !== 1 || first?.[0] !== 0 || first[1] !== request.length)
        throw protocolBreach('an answer to READ that ends before all is there', { offset: request.offset, length: request.length });
    },
  };
}

function cover(covered: [number, number][], from: number, to: number, offset: number): void {
  let low = 0;
  for (let high = covered.length; low < high; ) {
    const middle = (low + high) >>> 1;
    if ((covered[middle]?.[0] ?? 0) < from) low = middle + 1;
    else high = middle;
  }
  const before = covered[low - 1];
  const after = covered[low];
  if ((before && before[1] > from) || (after && after[0] < to)) throw protocolBreach('the same bytes twice in one answer', { offset });
  if (before?.[1] === from) {
    before[1] = after?.[0] === to ? after[1] : to;
    if (after?.[0] === to) covered.splice(low, 1);
  } else if (after?.[0] === to) after[0] = from;
  else covered.splice(low, 0, [from, to]);
}

/** A BLOCK_STATUS: `found` gets what was said of each context, by the number it has on this connection. */
export function pendingStatus(request: Request, contexts: ReadonlySet<number>, found: Map<number, BlockStatus>): PendingAnswer {
  return {
    ...pendingWord(request),
    status(status) {
      const { context, descriptors } = status;
      if (!contexts.has(context)) throw protocolBreach('a block status for a context that was not chosen', { context });
      if (found.has(context)) throw protocolBreach('two block states for one context', { context });
      let total = 0;
      for (const { length } of descriptors) {
        if (total >= request.length) throw protocolBreach('a block status goes on behind what was asked for', { length: request.length });
        total += length;
        if (!Number.isSafeInteger(request.offset + total)) throw protocolBreach('a block status beyond the end of all disks');
      }
      found.set(context, status);
    },
    complete() {
      if (found.size !== contexts.size) throw protocolBreach(`${found.size} block states, ${contexts.size} contexts were chosen`);
    },
  };
}
