// One connection in transmission: many requests in flight, each with its answer or its error.
// Once anything is wrong with it, it is over: every request fails, and no byte of it is used any more.

import type { Duplex } from 'node:stream';
import { systemClock } from '../../plumbing/clock.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { connectionClosed } from '../byte-dialog.ts';
import { ByteFeed } from '../byte-feed.ts';
import { endSoftly } from '../end-softly.ts';
import type { BlockStatus } from '../protocol/block-status.ts';
import { errorName, NBD_ERROR, type NbdErrorName } from '../protocol/error-number.ts';
import type { MetaContext } from '../protocol/meta-context.ts';
import { COMMAND, COMMAND_FLAG, commandName, encodeRequest, type Request } from '../protocol/request.ts';
import type { ExportFacts, HeaderStyle } from './negotiation.ts';
import { type PendingAnswer, pendingRead, pendingStatus, pendingWord } from './pending-answer.ts';
import { ReplyReader } from './reply-reader.ts';

/** A request that the server answered with an error; the connection is sound. */
export class NbdReplyError extends Error {
  override readonly name = 'NbdReplyError';
  readonly error: NbdErrorName;
  readonly command: string;

  constructor(error: number, command: number) {
    super(`the server answered ${commandName(command)} with ${errorName(error)}`);
    this.error = errorName(error);
    this.command = commandName(command);
  }
}

export interface ConnectionSetup {
  readonly socket: Duplex;
  readonly style: HeaderStyle;
  readonly facts: ExportFacts;
  readonly contexts: readonly MetaContext[];
  /** Milliseconds a READ, WRITE or BLOCK_STATUS may take. */
  readonly answerWithin: number;
}

interface InFlight {
  readonly answer: PendingAnswer;
  /** When it must be answered, and how long it could take until then. */
  readonly until: number;
  readonly within: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class NbdConnection {
  readonly facts: ExportFacts;
  readonly contexts: readonly MetaContext[];
  readonly extended: boolean;
  readonly #socket: Duplex;
  readonly #feed: ByteFeed;
  readonly #answerWithin: number;
  readonly #inFlight = new Map<bigint, InFlight>();
  #nextCookie = 1n;
  #timer: NodeJS.Timeout | undefined;
  #ended: { readonly error: unknown } | undefined;
  #leaving = false;

  constructor({ socket, style, facts, contexts, answerWithin }: ConnectionSetup) {
    this.facts = facts;
    this.contexts = contexts;
    this.extended = style === 'extended';
    this.#socket = socket;
    this.#answerWithin = answerWithin;
    this.#feed = new ByteFeed(socket, (error) => this.#end(error));
    socket.on('error', (error) => this.#end(connectionClosed(error)));
    socket.on('end', () => this.#end(connectionClosed()));
    socket.on('close', () => this.#end(connectionClosed()));
    new ReplyReader(this.#feed, style, {
      find: (cookie) => this.#inFlight.get(cookie)?.answer,
      ended: (cookie, error) => this.#answered(cookie, error),
    });
    socket.resume();
  }

  get inFlight(): number {
    return this.#inFlight.size;
  }

  /** May new requests be given to it? */
  get usable(): boolean {
    return !this.#ended && !this.#leaving;
  }

  /** Why it is over, if it is. */
  get failure(): unknown {
    return this.#ended?.error;
  }

  /** Fills the buffer. Rejects with NbdReplyError, CONNECTION_FAILED (`retryable`) or NBD_PROTOCOL; the buffer is then undefined. */
  read(buffer: Uint8Array, offset: number): Promise<void> {
    const request = this.#request(COMMAND.READ, offset, buffer.length);
    return this.#send(pendingRead(request, buffer));
  }

  write(bytes: Uint8Array, offset: number, flags: number): Promise<void> {
    const payload = this.extended ? COMMAND_FLAG.PAYLOAD_LEN : 0;
    return this.#send(pendingWord(this.#request(COMMAND.WRITE, offset, bytes.length, flags | payload)), bytes);
  }

  /** WRITE_ZEROES, TRIM. */
  change(command: number, offset: number, length: number, flags = 0): Promise<void> {
    return this.#send(pendingWord(this.#request(command, offset, length, flags)));
  }

  flush(): Promise<void> {
    return this.#send(pendingWord(this.#request(COMMAND.FLUSH, 0, 0)));
  }

  /** What the server says of each context that was chosen, by name; at least one stretch each, from `offset` on. */
  async blockStatus(offset: number, length: number): Promise<ReadonlyMap<string, BlockStatus['descriptors']>> {
    const found = new Map<number, BlockStatus>();
    const ids = new Set(this.contexts.map(({ id }) => id));
    await this.#send(pendingStatus(this.#request(COMMAND.BLOCK_STATUS, offset, length), ids, found));
    return new Map(this.contexts.map(({ id, name }) => [name, found.get(id)?.descriptors ?? []]));
  }

  /** Ends it politely. What is in flight fails. */
  close(): void {
    if (this.#ended) return;
    this.#disconnect();
    this.#end(new ChainkeepError('CANCELLED', 'the connection to the NBD server was closed'));
  }

  #request(command: number, offset: number, length: number, flags = 0): Request {
    return { command, flags, cookie: this.#nextCookie++, offset, length };
  }

  #send(answer: PendingAnswer, payload?: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#ended) {
        reject(this.#ended.error);
        return;
      }
      const { request } = answer;
      const head = encodeRequest(request, this.extended);
      const within = WITHOUT_BYTES.has(request.command) ? Math.max(WORK_WITHIN, this.#answerWithin) : this.#answerWithin;
      this.#inFlight.set(request.cookie, { answer, until: systemClock.monotonic() + within, within, resolve, reject });
      this.#socket.cork();
      this.#socket.write(head);
      if (payload) this.#socket.write(payload);
      // Requests that are made at the same moment leave in one packet.
      process.nextTick(() => this.#socket.uncork());
      this.#watch();
    });
  }

  #answered(cookie: bigint, error: number): void {
    const done = this.#inFlight.get(cookie);
    if (!done) return;
    this.#inFlight.delete(cookie);
    if (this.#inFlight.size === 0) this.#stopWatching();
    if (error === 0) done.resolve();
    else if (error === NBD_ERROR.ESHUTDOWN) done.reject(shuttingDown());
    else done.reject(new NbdReplyError(error, done.answer.request.command));
    // "If the client receives an ESHUTDOWN error it MUST initiate a soft disconnect", once nothing is in flight any more.
    if (error === NBD_ERROR.ESHUTDOWN) this.#leaving = true;
    if (this.#leaving && this.#inFlight.size === 0) {
      this.#disconnect();
      this.#end(shuttingDown());
    }
  }

  /** Looks up when the first of them must be answered, and no later than one that is made meanwhile could have to be. */
  #watch(): void {
    if (this.#timer || this.#inFlight.size === 0) return;
    const first = [...this.#inFlight.values()].reduce((one, other) => (other.until < one.until ? other : one));
    const left = first.until - systemClock.monotonic();
    if (left <= 0) {
      this.#end(noAnswer(first.within));
      return;
    }
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        this.#watch();
      },
      Math.min(Math.ceil(left), this.#answerWithin),
    );
  }

  #stopWatching(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #disconnect(): void {
    this.#socket.write(encodeRequest({ command: COMMAND.DISC, flags: 0, cookie: 0n, offset: 0, length: 0 }, this.extended));
    endSoftly(this.#socket);
  }

  #end(error: unknown): void {
    if (this.#ended) return;
    this.#ended = { error };
    this.#stopWatching();
    const waiting = [...this.#inFlight.values()];
    this.#inFlight.clear();
    // From here on nothing is written to any buffer that was given to a request. Where we have said goodbye, the server may still hear it.
    this.#feed.detach();
    if (waiting.length > 0 || !this.#socket.writableEnded) this.#socket.destroy();
    for (const { reject } of waiting) reject(error);
  }
}

/** The work of these is over there, and can be all that was written since the last flush. */
const WITHOUT_BYTES: ReadonlySet<number> = new Set([COMMAND.FLUSH, COMMAND.TRIM, COMMAND.WRITE_ZEROES]);
const WORK_WITHIN = 30 * 60_000;

function shuttingDown(): ChainkeepError {
  return new ChainkeepError('CONNECTION_FAILED', 'the NBD server is shutting down', {
    advice: 'try again when it is back',
    retryable: true,
  });
}

function noAnswer(milliseconds: number): ChainkeepError {
  return new ChainkeepError('CONNECTION_FAILED', `the NBD server did not answer a request within ${milliseconds} ms`, {
    advice: 'look at the server and the network between',
    retryable: true,
    context: { waited_ms: milliseconds },
  });
}
