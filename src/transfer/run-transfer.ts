// Runs a plan: hands units to worker threads, takes their results back in the order of the disk, stops at the first error.
// It knows no formats and decides nothing; memory is bounded by the window below, whatever the size of the disk.

import type { DiskReader } from '../disk/disk-reader.ts';
import type { DiskWriter } from '../disk/disk-writer.ts';
import type { Compression } from '../disk/extent.ts';
import type { ByteSink } from '../plumbing/byte-sink.ts';
import type { ByteSource } from '../plumbing/byte-source.ts';
import { ChainkeepError, cancellation, throwIfCancelled } from '../plumbing/errors.ts';
import { threadCount } from './idle-workers.ts';
import { allocateShared } from './served-io.ts';
import { TransferThread } from './transfer-thread.ts';
import {
  type ExpectedUse,
  type OutputSetup,
  PIECE,
  PIECE_NUMBERS,
  type Unit,
  type UnitResult,
  type WorkerFailure,
  type WriteTarget,
} from './unit.ts';

/** Where a transfer writes to. */
export type TransferOutput =
  | { readonly kind: 'none' }
  | { readonly kind: 'image'; readonly sink: ByteSink; readonly compression: Compression; readonly level: number }
  | { readonly kind: 'disk'; readonly writer: DiskWriter };

export interface TransferOptions {
  readonly clusterSize: number;
  /** URL of the module that exports `createClusterCodec`. */
  readonly codec: string;
  readonly expected: ExpectedUse;
  readonly digests: boolean;
  readonly output: TransferOutput;
  /** Pieces whose source is -1 are read from it. */
  readonly disk: Pick<DiskReader, 'read' | 'intoShared'>;
  /** The byte sources that units name by index. */
  readonly sources: { at(index: number): ByteSource | undefined };
  /**
   * Called in the order of the disk, one at a time. `settledBelow`: what later results will name lies at or behind this offset of
   * the image (0 for other outputs), so tables that count only what is in front of it are final.
   */
  readonly consume: (result: UnitResult, settledBelow: number) => Promise<void> | void;
  /** Turns what a worker reports into the error of the caller's room. */
  readonly explain: (failure: WorkerFailure) => unknown;
  readonly threads?: number;
  readonly signal?: AbortSignal;
}

/** Bytes a unit covers: large enough to keep calls few, small enough to stay in a core's cache. */
export function unitBytesFor(clusterSize: number): number {
  return Math.max(UNIT_BYTES, clusterSize);
}

const UNIT_BYTES = 1 << 20;
// Units a thread gets in one message: a message costs as much as reading 200 KiB.
const UNITS_AN_ORDER = 4;
// A thread gets its next order when less than this is left of the last ones: hides the way to the main thread and back.
const AHEAD = 2 * UNITS_AN_ORDER;
// Units whose results are not consumed yet, all threads together.
const MOST_OPEN = 2048;

export async function runTransfer(units: AsyncIterable<Unit>, options: TransferOptions): Promise<void> {
  throwIfCancelled(options.signal);
  const run = new TransferRun(options);
  try {
    await run.feed(units);
    await run.drain();
  } finally {
    await run.close();
  }
}

class TransferRun {
  readonly #options: TransferOptions;
  readonly #threads: TransferThread[];
  readonly #arrived = new Map<number, UnitResult>();
  /** For each unit that is not consumed: how far the image reached when it was given to a thread. */
  readonly #reachedAt = new Map<number, number>();
  #appended = 0;
  #nextResult = 0;
  #nextUnit = 0;
  #consuming: Promise<void> = Promise.resolve();
  #consumeActive = false;
  #failure: { readonly error: unknown } | undefined;
  #wake: (() => void) | undefined;
  readonly #onAbort = (): void => this.#fail(cancellation(this.#options.signal));

  constructor(options: TransferOptions) {
    this.#options = options;
    const count = options.threads ?? threadCount();
    this.#threads = Array.from({ length: count }, () => this.#openThread());
    options.signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  async feed(units: AsyncIterable<Unit>): Promise<void> {
    let order: Unit[] = [];
    for await (const unit of units) {
      this.#nextUnit = unit.seq + 1;
      order.push(unit);
      if (order.length < UNITS_AN_ORDER) continue;
      await this.#give(order);
      order = [];
    }
    if (order.length > 0) await this.#give(order);
    for (const thread of this.#threads) thread.end();
  }

  async drain(): Promise<void> {
    await this.#until(() => this.#threads.every((thread) => thread.ended));
    await this.#until(() => this.#nextResult === this.#nextUnit && !this.#consumeActive);
  }

  async close(): Promise<void> {
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    await Promise.all(this.#threads.map((thread) => thread.close()));
    // A consumer that is still writing must be over before its caller takes its output away.
    await this.#consuming;
  }

  #openThread(): TransferThread {
    const options = this.#options;
    const unitBytes = unitBytesFor(options.clusterSize);
    const setup = {
      clusterSize: options.clusterSize,
      unitBytes,
      expected: options.expected,
      digests: options.digests,
      codec: options.codec,
      output: outputSetup(options.output),
      // An append carries at most one unit or one packed run.
      shared: allocateShared(Math.max(unitBytes, 2 * options.clusterSize)),
    };
    return new TransferThread(setup, {
      results: (results) => this.#take(results),
      failed: (error) => this.#fail(error),
      changed: () => this.#wake?.(),
      explain: options.explain,
      sourceAt: (index) => options.sources.at(index),
      readsIntoShared: (source) => (source < 0 ? options.disk : options.sources.at(source))?.intoShared ?? false,
      read: (source, buffer, offset) => this.#read(source, buffer, offset),
      append: async (buffer) => {
        const offset = await appendTo(options.output, buffer);
        this.#appended = Math.max(this.#appended, offset + buffer.length);
        return offset;
      },
      write: (buffer, offset) => writeTo(options.output, buffer, offset),
    });
  }

  #read(source: number, buffer: Uint8Array, offset: number): Promise<void> {
    if (source < 0) return this.#options.disk.read(buffer, offset);
    const opened = this.#options.sources.at(source);
    if (!opened) throw new ChainkeepError('INTERNAL', `internal error: no byte source ${source}`);
    return opened.read(buffer, offset);
  }

  async #give(order: readonly Unit[]): Promise<void> {
    await this.#pace(order);
    const thread = await this.#freeThread();
    const reached = this.#reached();
    for (const unit of order) this.#reachedAt.set(unit.seq, reached);
    thread.give(order);
  }

  /** What threads do by themselves is slowed down here, where a store asks for it; a failure must not wait for it. */
  async #pace(order: readonly Unit[]): Promise<void> {
    const { output, sources } = this.#options;
    const waits = [output.kind === 'image' ? output.sink.direct?.pace?.() : undefined];
    for (const [index, bytes] of bytesBySource(order)) waits.push(sources.at(index)?.pace?.(bytes));
    if (waits.every((wait) => wait === undefined)) return;
    let free = false;
    const all = Promise.all(waits).finally(() => {
      free = true;
      this.#wake?.();
    });
    await Promise.all([all, this.#until(() => free)]);
  }

  #freeThread(): Promise<TransferThread> | TransferThread {
    const free = this.#leastBusy();
    if (free && !this.#failure) return free;
    // The oldest results may wait in a packed run that nothing fills any more: without them none of the others can be taken.
    if (this.#isFull()) for (const thread of this.#threads) thread.flush();
    return this.#until(() => this.#leastBusy() !== undefined).then(() => this.#freeThread());
  }

  #leastBusy(): TransferThread | undefined {
    if (this.#isFull()) return undefined;
    let best: TransferThread | undefined;
    for (const thread of this.#threads) {
      if (thread.busy <= AHEAD - UNITS_AN_ORDER && (best === undefined || thread.busy < best.busy)) best = thread;
    }
    return best;
  }

  #isFull(): boolean {
    return this.#nextUnit - this.#nextResult > MOST_OPEN;
  }

  #take(results: readonly UnitResult[]): void {
    for (const result of results) this.#arrived.set(result.seq, result);
    if (!this.#consumeActive && this.#arrived.has(this.#nextResult)) {
      this.#consumeActive = true;
      this.#consuming = this.#consumeArrived().catch((error: unknown) => this.#fail(error));
    }
  }

  async #consumeArrived(): Promise<void> {
    try {
      for (let next = this.#arrived.get(this.#nextResult); next && !this.#failure; next = this.#arrived.get(this.#nextResult)) {
        this.#arrived.delete(this.#nextResult);
        const waiting = this.#options.consume(next, this.#reachedAt.get(next.seq + 1) ?? this.#reached());
        if (waiting) await waiting;
        this.#reachedAt.delete(next.seq);
        this.#nextResult++;
      }
    } finally {
      this.#consumeActive = false;
      this.#wake?.();
    }
  }

  /** Threads claim places on their own where they can; else every append went through here. */
  #reached(): number {
    const { output } = this.#options;
    if (output.kind !== 'image') return 0;
    return output.sink.direct ? Number(Atomics.load(output.sink.direct.next, 0)) : this.#appended;
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.#wake?.();
  }

  /** Waits until `condition` holds; throws the first failure. Only one waiter at a time: `feed`, then `drain`. */
  async #until(condition: () => boolean): Promise<void> {
    while (true) {
      if (this.#failure) throw this.#failure.error;
      if (condition()) return;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }
}

/** Of each byte source, the stored bytes that the units read. */
function bytesBySource(units: readonly Unit[]): ReadonlyMap<number, number> {
  const bytes = new Map<number, number>();
  for (const { pieces } of units) {
    for (let at = 0; at < pieces.length; at += PIECE_NUMBERS) {
      const source = pieces[at + PIECE.SOURCE] ?? -1;
      if (source < 0) continue;
      const stored = pieces[at + PIECE.STORED_LENGTH] || (pieces[at + PIECE.LENGTH] ?? 0);
      bytes.set(source, (bytes.get(source) ?? 0) + stored);
    }
  }
  return bytes;
}

function outputSetup(output: TransferOutput): OutputSetup {
  if (output.kind === 'none') return output;
  if (output.kind === 'image')
    return { kind: 'image', compression: output.compression, level: output.level, target: directTarget(output.sink) };
  const { fd, startsZero } = output.writer;
  return { kind: 'disk', skipZero: startsZero, target: fd === undefined ? {} : { fd } };
}

/** Only what a message can carry. */
function directTarget({ direct }: ByteSink): WriteTarget {
  return direct ? { fd: direct.fd, next: direct.next } : {};
}

function appendTo(output: TransferOutput, buffer: Uint8Array): Promise<number> {
  if (output.kind !== 'image') throw new ChainkeepError('INTERNAL', 'internal error: append without an image');
  return output.sink.append([buffer]);
}

function writeTo(output: TransferOutput, buffer: Uint8Array, offset: number): Promise<void> {
  if (output.kind !== 'disk') throw new ChainkeepError('INTERNAL', 'internal error: write without a disk');
  return output.writer.write(buffer, offset);
}
