// An object opened for reading: ranges through the store's block cache, and further ahead the longer it is read in sequence.
// It must not read from anything but the version it opened; that is the range reader's promise (ETag or version id with every request).

import type { ByteSource } from '../../plumbing/byte-source.ts';
import { assert, ChainkeepError } from '../../plumbing/errors.ts';
import type { BlockCache, Run } from './block-cache.ts';

export interface RangeReader {
  readonly name: string;
  /** Bytes of the opened version. */
  readonly size: number;
  /**
   * Exactly these bytes of the opened version, in the pieces in which they came, or it throws: BLOB_CHANGED where that version is not there any more.
   * Tries again by itself. The pieces are the caller's.
   */
  readRange(offset: number, length: number, signal: AbortSignal): Promise<readonly Uint8Array[]>;
}

/** The unit of the cache, and what opening an object reads at once. */
export const BLOCK_BYTES = 256 * 1024;
/** Bytes of one request at most. Azure gives no digest for more than 4 MiB: what is read ahead there is checked by the digests of the clusters alone. */
const MOST_RUN = 8 * 2 ** 20;
/** Bytes of one read that are asked for at the same time. */
const MOST_SPAN = 16 * 2 ** 20;
const FIRST_WINDOW = 2 ** 20;
const MOST_WINDOW = 32 * 2 ** 20;
/** Reads one behind the other, without a gap, before anything is read ahead. */
const STREAK = 3;
/** Once in sequence, jumps of so many blocks are none: what several workers have written side by side is not quite in the order of the disk. */
const NEAR_BLOCKS = 128;
/** So many reads in a row that do not follow each other are no sequence any more, however near they are. */
const MOST_STRAYS = 64;
/** A read far away counts as many of them. */
const FAR_STRAY = 8;

class ObjectSource implements ByteSource {
  readonly intoShared = true;
  readonly name: string;
  readonly size: number;
  readonly #reader: RangeReader;
  readonly #cache: BlockCache;
  readonly #cancel = new AbortController();
  readonly #lastBlock: number;
  /** Behind the furthest block that the sequence has come to. */
  #next = 0;
  #streak = 0;
  #strays = 0;
  /** Bytes. */
  #window = 0;

  constructor(reader: RangeReader, cache: BlockCache) {
    this.name = reader.name;
    this.size = reader.size;
    this.#reader = reader;
    this.#cache = cache;
    this.#lastBlock = Math.ceil(reader.size / BLOCK_BYTES) - 1;
  }

  /** What opening has read already, from offset 0: whole blocks, or all there is. */
  keepFirst(bytes: Buffer): void {
    if (bytes.byteLength === 0) return;
    const blocks = Math.ceil(bytes.byteLength / BLOCK_BYTES);
    assert(bytes.byteLength === Math.min(this.size, blocks * BLOCK_BYTES), `${bytes.byteLength} bytes of ${this.name} are no whole blocks`);
    this.#cache.add({ source: this, firstBlock: 0, blocks, bytes: bytes.byteLength, data: Promise.resolve([bytes]) });
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    const length = buffer.byteLength;
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + length > this.size) {
      throw new ChainkeepError('STORE_FAILED', `read outside of ${this.name}: ${length} bytes at ${offset}, its size is ${this.size}`, {
        context: { offset, length, size: this.size },
      });
    }
    for (let done = 0; done < length; done += MOST_SPAN) {
      await this.#readSpan(buffer.subarray(done, done + MOST_SPAN), offset + done);
    }
  }

  async #readSpan(buffer: Uint8Array, offset: number): Promise<void> {
    const length = buffer.byteLength;
    const first = Math.floor(offset / BLOCK_BYTES);
    const last = Math.floor((offset + length - 1) / BLOCK_BYTES);
    const runs = this.#gather(first, last);
    this.#lookAhead(first, last);
    for (const run of runs) {
      const pieces = await run.data;
      const start = run.firstBlock * BLOCK_BYTES;
      const from = Math.max(offset, start);
      const to = Math.min(offset + length, start + run.bytes);
      copyPieces(pieces, from - start, buffer.subarray(from - offset, to - offset));
    }
  }

  /** Every run that covers the blocks; those that are not there are asked for now, all at the same time. */
  #gather(first: number, last: number): readonly Run[] {
    const runs: Run[] = [];
    for (let block = first; block <= last; ) {
      const known = this.#cache.find(this, block);
      const run = known ?? this.#fetch(block, last);
      runs.push(run);
      block = run.firstBlock + run.blocks;
    }
    return runs;
  }

  /** One request for the blocks from `first` that are not known, up to `last`. */
  #fetch(first: number, last: number): Run {
    let blocks = 1;
    const most = Math.min(last - first + 1, MOST_RUN / BLOCK_BYTES);
    while (blocks < most && !this.#cache.has(this, first + blocks)) blocks += 1;
    const offset = first * BLOCK_BYTES;
    const bytes = Math.min(this.size - offset, blocks * BLOCK_BYTES);
    const data = this.#reader.readRange(offset, bytes, this.#cancel.signal);
    const run: Run = { source: this, firstBlock: first, blocks, bytes, data };
    data.catch(() => this.#cache.drop(run)); // whoever waits for it hears of the error; the next read asks again
    this.#cache.add(run);
    return run;
  }

  #lookAhead(first: number, last: number): void {
    if (!this.#isInSequence(first, last)) {
      this.#window = 0;
      this.#cache.leaveStream(this);
      return;
    }
    if (last < this.#next || first > this.#next + NEAR_BLOCKS) return; // a little behind, or a look aside
    this.#next = last + 1;
    const most = Math.min(MOST_WINDOW, this.#cache.fairShare(this));
    this.#window = Math.min(most, Math.max(FIRST_WINDOW, this.#window * 2));
    const end = Math.min(this.#lastBlock, last + Math.floor(this.#window / BLOCK_BYTES));
    const atOnce = Math.floor(Math.min(MOST_RUN, Math.max(BLOCK_BYTES, this.#window / 4)) / BLOCK_BYTES);
    for (let block = last + 1; block <= end; block += 1) {
      if (this.#cache.has(this, block)) continue;
      // Full requests only, but at the end: else every read would ask for the one block that came into the window.
      const fits = Math.min(block + atOnce - 1, this.#lastBlock);
      if (fits > end) return;
      block = this.#ahead(block, fits);
    }
  }

  /** Is what is read a sequence, also when this very read is a look aside (a table, say)? */
  #isInSequence(first: number, last: number): boolean {
    const gap = Math.abs(first - this.#next);
    this.#strays = gap <= 1 ? 0 : this.#strays + (gap <= NEAR_BLOCKS ? 1 : FAR_STRAY);
    if (this.#streak >= STREAK && this.#strays <= MOST_STRAYS) return true;
    this.#streak = gap <= 1 ? this.#streak + 1 : 0;
    this.#next = this.#streak >= STREAK ? this.#next : last + 1;
    return this.#streak >= STREAK;
  }

  /** Answers the last block it asked for. */
  #ahead(first: number, last: number): number {
    const run = this.#fetch(first, last);
    return run.firstBlock + run.blocks - 1;
  }

  async close(): Promise<void> {
    this.#cancel.abort();
    this.#cache.dropSource(this);
  }
}

/** Fills `target` with what stands in the pieces from `offset` on. */
function copyPieces(pieces: readonly Uint8Array[], offset: number, target: Uint8Array): void {
  let skip = offset;
  let done = 0;
  for (const piece of pieces) {
    if (done === target.byteLength) return;
    if (skip >= piece.byteLength) {
      skip -= piece.byteLength;
      continue;
    }
    const part = piece.subarray(skip, skip + target.byteLength - done);
    target.set(part, done);
    done += part.byteLength;
    skip = 0;
  }
}

/** `first`: the bytes that opening has read, from offset 0: a whole number of blocks, or the whole object. */
export function openObjectSource(reader: RangeReader, cache: BlockCache, first: Buffer): ByteSource {
  const source = new ObjectSource(reader, cache);
  source.keepFirst(first);
  return source;
}
