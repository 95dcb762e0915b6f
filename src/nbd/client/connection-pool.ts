// All connections to one export: requests go to the one that has least to do, more are opened where the server allows it.
// A lost connection is replaced for reads alone: what was written and not flushed may be lost with the server, so writers fail instead.

import { systemClock } from '../../plumbing/clock.ts';
import { ChainkeepError, cancellation, isChainkeepError } from '../../plumbing/errors.ts';
import { connectionClosed } from '../byte-dialog.ts';
import { hasFlag } from '../protocol/transmission-flags.ts';
import { connectNbd, type NbdTarget } from './connect-nbd.ts';
import type { NbdConnection } from './nbd-connection.ts';
import type { ExportFacts } from './negotiation.ts';

export interface PoolOptions {
  readonly contexts: readonly string[];
  readonly connections: number;
  /** Milliseconds from the loss of a connection until its requests fail; 0: they fail at once, and so does everything after them. */
  readonly reconnectWithin: number;
  /** Ends all of it when it fires, also what is in flight. */
  readonly signal?: AbortSignal | undefined;
}

/** Requests on one connection: what QEMU works on at a time. More would only wait over there. */
const MOST_IN_FLIGHT = 16;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2000;

export class ConnectionPool {
  readonly facts: ExportFacts;
  readonly contexts: readonly string[];
  readonly #target: NbdTarget;
  readonly #options: PoolOptions;
  readonly #closing = new AbortController();
  #connections: NbdConnection[];
  readonly #busy = new Map<NbdConnection, number>();
  readonly #waiting: (() => void)[] = [];
  #most: number;
  #opening = false;
  /** Before the next attempt to connect; 0 since a request was answered. */
  #pause = 0;
  /** When the last connection was found to be gone. */
  #lostAt = 0;
  #failed: { readonly error: unknown } | undefined;
  readonly #onAbort = (): void => this.#fail(cancellation(this.#options.signal));

  private constructor(target: NbdTarget, options: PoolOptions, first: NbdConnection) {
    this.facts = first.facts;
    this.contexts = first.contexts.map(({ name }) => name);
    this.#target = target;
    this.#options = options;
    this.#connections = [first];
    this.#most = hasFlag(first.facts.flags, 'CAN_MULTI_CONN') ? Math.max(1, options.connections) : 1;
    options.signal?.addEventListener('abort', this.#onAbort);
    if (options.signal?.aborted) this.#onAbort();
  }

  static async open(target: NbdTarget, options: PoolOptions): Promise<ConnectionPool> {
    return new ConnectionPool(target, options, await connectNbd(target, options.contexts, options.signal));
  }

  /** Runs `work` on a connection; again on another one when the connection is lost and there is time left. */
  async run<Answer>(work: (connection: NbdConnection) => Promise<Answer>): Promise<Answer> {
    let lost: number | undefined;
    while (true) {
      const connection = await this.#acquire();
      try {
        const answer = await work(connection);
        this.#pause = 0;
        return answer;
      } catch (error) {
        if (isChainkeepError(error, 'NBD_PROTOCOL') || (isLoss(error) && this.#options.reconnectWithin === 0)) this.#fail(error);
        if (this.#failed) throw this.#failed.error;
        if (!isLoss(error)) throw error;
        lost ??= systemClock.monotonic();
        if (this.#timeLeft(lost) <= 0) throw error;
      } finally {
        this.#release(connection);
      }
    }
  }

  close(): void {
    this.#fail(new ChainkeepError('CANCELLED', `${this.#target.shown} was closed`));
  }

  #timeLeft(lost: number): number {
    return lost + this.#options.reconnectWithin - systemClock.monotonic();
  }

  async #acquire(): Promise<NbdConnection> {
    while (true) {
      if (this.#failed) throw this.#failed.error;
      this.#dropLost();
      const free = this.#leastBusy();
      if (free) {
        this.#busy.set(free, (this.#busy.get(free) ?? 0) + 1);
        if (this.#busy.get(free) !== 1 && this.#connections.length < this.#most) this.#openAnother();
        return free;
      }
      if (this.#connections.length === 0) await this.#reconnect();
      else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** For a writer the end of one connection is the end of all: nobody knows what became of what was written over it. */
  #dropLost(): void {
    const lost = this.#connections.find(({ usable }) => !usable);
    if (!lost) return;
    if (this.#options.reconnectWithin === 0) {
      const error = lost.failure ?? connectionClosed();
      this.#fail(error);
      throw error;
    }
    this.#connections = this.#connections.filter(({ usable }) => usable);
    if (this.#connections.length === 0) this.#lostAt = systemClock.monotonic();
  }

  /** Throws when anything went wrong since it was opened, also where nothing was asked for meanwhile. */
  checkSound(): void {
    if (this.#failed) throw this.#failed.error;
    this.#dropLost();
  }

  #leastBusy(): NbdConnection | undefined {
    let best: NbdConnection | undefined;
    let least = MOST_IN_FLIGHT;
    for (const connection of this.#connections) {
      const busy = this.#busy.get(connection) ?? 0;
      if (busy < least) {
        best = connection;
        least = busy;
      }
    }
    return best;
  }

  #release(connection: NbdConnection): void {
    const left = (this.#busy.get(connection) ?? 1) - 1;
    if (left > 0) this.#busy.set(connection, left);
    else this.#busy.delete(connection);
    this.#wakeOne();
  }

  #wakeOne(): void {
    this.#waiting.shift()?.();
  }

  #wakeAll(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** In the background, while the first ones work: what it cannot get is not needed. */
  #openAnother(): void {
    if (this.#opening) return;
    this.#opening = true;
    connectNbd(this.#target, this.#options.contexts, this.#closing.signal)
      .then((connection) => this.#add(connection))
      .catch((error: unknown) => {
        if (isChainkeepError(error, 'SOURCE_CHANGED') || isChainkeepError(error, 'NBD_PROTOCOL')) this.#fail(error);
        // Some servers promise several connections and take fewer.
        this.#most = Math.max(1, this.#connections.length);
      })
      .finally(() => {
        this.#opening = false;
        this.#wakeAll();
      });
  }

  #add(connection: NbdConnection): void {
    if (this.#failed) {
      connection.close();
      return;
    }
    try {
      this.#refuseOther(connection);
    } catch (error) {
      connection.close();
      throw error;
    }
    this.#connections.push(connection);
  }

  /** All connections are gone: one attempt, after a pause that grows until a request is answered; others wait for it. */
  async #reconnect(): Promise<void> {
    if (this.#opening) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
      return;
    }
    this.#opening = true;
    try {
      await pause(Math.min(this.#pause, this.#timeLeft(this.#lostAt)), this.#closing.signal);
      this.#pause = Math.min(LONGEST_PAUSE_MS, Math.max(FIRST_PAUSE_MS, this.#pause * 2));
      this.#add(await connectNbd(this.#target, this.#options.contexts, this.#closing.signal));
    } catch (error) {
      if (this.#failed) throw this.#failed.error;
      if (isLoss(error) && this.#timeLeft(this.#lostAt) > 0) return;
      this.#fail(error);
      throw error;
    } finally {
      this.#opening = false;
      this.#wakeAll();
    }
  }

  /** A server that was set up anew may serve something else under the same name. */
  #refuseOther({ facts, contexts }: NbdConnection): void {
    const names = contexts.map(({ name }) => name);
    const same =
      facts.size === this.facts.size &&
      facts.blockSize.minimum === this.facts.blockSize.minimum &&
      facts.blockSize.maximum === this.facts.blockSize.maximum &&
      this.contexts.every((name) => names.includes(name));
    if (same) return;
    throw new ChainkeepError('SOURCE_CHANGED', `${this.#target.shown} is another export than before`, {
      advice: 'begin again with the export as it is now',
      context: { size_before: this.facts.size, size_now: facts.size },
    });
  }

  #fail(error: unknown): void {
    if (this.#failed) return;
    this.#failed = { error };
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    this.#closing.abort(error);
    for (const connection of this.#connections) connection.close();
    this.#connections = [];
    this.#wakeAll();
  }
}

/** A connection that broke, or a server that is gone: not what the server said or did. */
function isLoss(error: unknown): boolean {
  return isChainkeepError(error, 'CONNECTION_FAILED') && error.retryable;
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, milliseconds);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    }
    signal.addEventListener('abort', done);
    if (signal.aborted) done();
  });
}
