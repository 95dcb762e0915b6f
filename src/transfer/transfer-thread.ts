// One worker thread as the main thread sees it: gives it units, serves its reads and writes, hears its results.

import type { Worker } from 'node:worker_threads';
import type { ByteSource } from '../plumbing/byte-source.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import { giveBackWorker, takeWorker } from './idle-workers.ts';
import { type ServedHandlers, serve, stopWork } from './served-io.ts';
import {
  type FromWorker,
  PIECE,
  PIECE_NUMBERS,
  type ToWorker,
  type Unit,
  type UnitResult,
  type WorkerFailure,
  type WorkerSetup,
} from './unit.ts';

export interface ThreadEvents extends ServedHandlers {
  results(results: readonly UnitResult[]): void;
  failed(error: unknown): void;
  /** Something a waiter may wait for has changed. */
  changed(): void;
  /** The error to report; may have to ask the store first. */
  explain(failure: WorkerFailure): unknown;
  sourceAt(index: number): ByteSource | undefined;
}

export class TransferThread {
  readonly #worker: Worker;
  readonly #events: ThreadEvents;
  readonly #shared: SharedArrayBuffer;
  readonly #named = new Set<number>();
  readonly #idle = Promise.withResolvers<void>();
  #serving: Promise<void> = Promise.resolve();
  #busy = 0;
  #ended = false;
  /** The thread said why it stops; its exit is no news. */
  #failing = false;

  constructor(setup: WorkerSetup, events: ThreadEvents) {
    this.#events = events;
    this.#shared = setup.shared;
    this.#worker = takeWorker();
    this.#worker.on('message', (message: FromWorker) => this.#hear(message));
    this.#worker.on('error', (error) => events.failed(error));
    this.#worker.on('exit', () => {
      this.#idle.resolve();
      if (!this.#ended && !this.#failing) events.failed(new ChainkeepError('INTERNAL', 'internal error: a worker thread ended early'));
    });
    this.#post({ setup });
  }

  /** Units given and not settled yet. */
  get busy(): number {
    return this.#busy;
  }

  get ended(): boolean {
    return this.#ended;
  }

  give(units: readonly Unit[]): void {
    this.#busy += units.length;
    this.#post({ order: { units, sources: units.flatMap((unit) => this.#nameSources(unit)) } });
  }

  /** Behind what it was given: answer every result, also those whose packed run is not full. */
  flush(): void {
    this.#post({ flush: true });
  }

  end(): void {
    this.#post({ end: true });
  }

  async close(): Promise<void> {
    const clean = this.#ended && !this.#failing;
    this.#ended = true;
    if (clean) giveBackWorker(this.#worker);
    else await this.#stop();
    await this.#serving;
  }

  /** A thread that is terminated inside of a native function takes the whole process with it: first it must have stopped by itself. */
  async #stop(): Promise<void> {
    stopWork(this.#shared);
    this.end();
    await this.#idle.promise;
    await this.#worker.terminate();
  }

  #nameSources(unit: Unit): [number, number | undefined][] {
    const named: [number, number | undefined][] = [];
    for (let at = PIECE.SOURCE; at < unit.pieces.length; at += PIECE_NUMBERS) {
      const index = unit.pieces[at] ?? -1;
      if (index < 0 || this.#named.has(index)) continue;
      this.#named.add(index);
      named.push([index, this.#events.sourceAt(index)?.fd]);
    }
    return named;
  }

  #hear(message: FromWorker): void {
    if ('results' in message) {
      this.#busy -= message.settled;
      this.#events.results(message.results);
    } else if ('request' in message) {
      this.#serving = serve(this.#shared, message.request, this.#events).catch((error: unknown) => this.#events.failed(error));
    } else if ('failed' in message) {
      this.#failing = true;
      this.#serving = this.#explain(message.failed);
    } else {
      this.#ended = true;
      this.#idle.resolve();
    }
    this.#events.changed();
  }

  async #explain(failure: WorkerFailure): Promise<void> {
    try {
      this.#events.failed(await this.#events.explain(failure));
    } catch (error) {
      this.#events.failed(error);
    }
  }

  #post(message: ToWorker): void {
    this.#worker.postMessage(message);
  }
}
