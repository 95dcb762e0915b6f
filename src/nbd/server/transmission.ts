// One client in transmission: takes its requests, carries out several at a time, and answers each.
// What a client may have going at a time is bounded in number and in bytes; more is not read from its socket.

import { ByteFeed } from '../byte-feed.ts';
import { endSoftly } from '../end-softly.ts';
import { protocolBreach } from '../protocol/breach.ts';
import { errorNumberOf, NBD_ERROR } from '../protocol/error-number.ts';
import { DEFAULT_MOST_PAYLOAD } from '../protocol/export-info.ts';
import {
  COMMAND,
  COMMAND_FLAG,
  commandName,
  EXTENDED_REQUEST_LENGTH,
  parseRequest,
  REQUEST_LENGTH,
  type Request,
} from '../protocol/request.ts';
import { dataView } from '../protocol/view.ts';
import { answerRead, PIECE_BYTES, type ReadService } from './answer-read.ts';
import type { BufferPool } from './buffer-pool.ts';
import type { Agreement } from './client-negotiation.ts';
import { describeRange } from './export-contexts.ts';
import { judgeRequest, payloadLength } from './judge-request.ts';
import type { DiskChanges } from './nbd-export.ts';
import { encodeDone, encodeFailed, encodeStatus } from './reply-writer.ts';
import { SendQueue } from './send-queue.ts';

/** Requests of one client that are carried out at a time, as in QEMU. */
const MOST_IN_FLIGHT = 16;
/** Bytes of one client's requests in memory at a time; one request may always go on. */
const MOST_BYTES = 8 * 1024 ** 2;

export interface TransmissionSetup {
  readonly agreement: Agreement;
  readonly pool: BufferPool;
  /** Milliseconds without taking a whole message after which a client is cut off. */
  readonly slowLimit: number;
  readonly onProblem: (error: unknown) => void;
}

export class Transmission {
  readonly #agreement: Agreement;
  readonly #pool: BufferPool;
  readonly #feed: ByteFeed;
  readonly #queue: SendQueue;
  readonly #reads: ReadService;
  readonly #head: Buffer;
  readonly #onProblem: (error: unknown) => void;
  readonly #idle = Promise.withResolvers<void>();
  #inFlight = 0;
  #bytes = 0;
  /** The next request is waiting until others have ended. */
  #stalled = false;
  #leaving = false;
  #stopping = false;
  #ended = false;
  #saidGoodbye = false;

  constructor({ agreement, pool, slowLimit, onProblem }: TransmissionSetup) {
    const { socket, headers, served } = agreement;
    this.#agreement = agreement;
    this.#pool = pool;
    this.#onProblem = onProblem;
    this.#head = Buffer.alloc(headers === 'extended' ? EXTENDED_REQUEST_LENGTH : REQUEST_LENGTH);
    this.#queue = new SendQueue(socket, slowLimit);
    this.#reads = { disk: served.disk, headers, queue: this.#queue, pool, onProblem };
    this.#feed = new ByteFeed(socket, (error) => this.#end(error));
    socket.on('error', () => this.#end());
    socket.on('close', () => this.#end());
    // What has come before is still carried out.
    socket.on('end', () => this.#feed.finish(() => this.#leave()));
    this.#next();
    socket.resume();
  }

  /** Resolves when it is over, and nothing that its client asked for is at work on the disk any more. */
  get idle(): Promise<void> {
    return this.#idle.promise;
  }

  get saidGoodbye(): boolean {
    return this.#saidGoodbye;
  }

  /** New requests are refused from now on; the connection ends when the others have ended. */
  stop(): void {
    this.#stopping = true;
    if (this.#inFlight === 0) this.#leave();
  }

  #next(): void {
    if (this.#ended || this.#leaving) return;
    this.#stalled = this.#inFlight >= MOST_IN_FLIGHT || this.#bytes >= MOST_BYTES;
    if (!this.#stalled) this.#feed.expect(this.#head, () => this.#take());
  }

  #take(): void {
    const request = parseRequest(dataView(this.#head), this.#agreement.headers === 'extended');
    if (request.command === COMMAND.DISC) {
      this.#saidGoodbye = true;
      this.#leave();
      return;
    }
    const payload = payloadLength(request, this.#agreement.headers);
    if (!(payload <= DEFAULT_MOST_PAYLOAD))
      throw protocolBreach(`${commandName(request.command)} with ${payload} bytes, ${DEFAULT_MOST_PAYLOAD} are allowed`, { payload });
    const error = this.#stopping ? NBD_ERROR.ESHUTDOWN : judgeRequest(request, this.#agreement);
    if (error !== 0) {
      if (error !== NBD_ERROR.ESHUTDOWN) this.#tellRefused(request);
      this.#refuse(request, payload, error);
    } else if (request.command === COMMAND.WRITE) this.#receive(request);
    else {
      const { command, length } = request;
      const bytes = command === COMMAND.READ ? Math.min(length, 2 * PIECE_BYTES) : 0;
      this.#start(bytes, () => this.#carryOut(request));
      this.#next();
    }
  }

  #tellRefused({ command, offset, length }: Request): void {
    const isChange = command === COMMAND.WRITE || command === COMMAND.WRITE_ZEROES || command === COMMAND.TRIM;
    if (isChange) this.#agreement.served.onRefused?.({ command: commandName(command), offset, length });
  }

  #refuse(request: Request, payload: number, error: number): void {
    this.#feed.skip(payload, () => {
      this.#start(0, () => this.#queue.send(encodeFailed(request, this.#agreement.headers, error)));
      this.#next();
    });
  }

  /** Runs one request to its end, which is that its reply is with the system. */
  #start(bytes: number, work: () => Promise<void>): void {
    this.#inFlight++;
    this.#bytes += bytes;
    work()
      .catch((error: unknown) => this.#end(error))
      .finally(() => {
        this.#inFlight--;
        this.#bytes -= bytes;
        if (this.#stalled) this.#next();
        if (this.#inFlight > 0) return;
        if (this.#ended) this.#idle.resolve();
        else if (this.#leaving || this.#stopping) this.#leave();
      });
  }

  async #carryOut(request: Request): Promise<void> {
    const { headers, served } = this.#agreement;
    const { command } = request;
    if (command === COMMAND.READ) return answerRead(this.#reads, request);
    let answers: readonly Buffer[];
    try {
      if (command === COMMAND.BLOCK_STATUS) answers = await this.#status(request);
      else {
        if (served.changes) await change(served.changes, request);
        answers = [encodeDone(request, headers)];
      }
    } catch (error) {
      this.#onProblem(error);
      answers = [encodeFailed(request, headers, errorNumberOf(error))];
    }
    for (const answer of answers) await this.#queue.send(answer);
  }

  async #status(request: Request): Promise<readonly Buffer[]> {
    const { headers, contexts } = this.#agreement;
    const { offset, length, flags } = request;
    const wish = { range: { offset, length }, one: (flags & COMMAND_FLAG.REQ_ONE) !== 0, extended: headers === 'extended' };
    const answers: Buffer[] = [];
    for (const [index, context] of contexts.entries()) {
      const descriptors = await describeRange(context, wish);
      answers.push(encodeStatus(request, headers, { context: context.id, descriptors }, index === contexts.length - 1));
    }
    return answers;
  }

  /** A WRITE, piece by piece as it comes in; it is answered when all of it is written. */
  #receive(request: Request): void {
    const { offset, length } = request;
    let failed: { readonly error: unknown } | undefined;
    const step = (at: number): void => {
      const size = Math.min(PIECE_BYTES, length - at);
      const buffer = this.#pool.take(size);
      this.#feed.expect(buffer.subarray(0, size), () => {
        const last = at + size === length;
        this.#start(size, async () => {
          try {
            if (!failed) await this.#agreement.served.changes?.write(buffer.subarray(0, size), offset + at);
            this.#pool.give(buffer);
          } catch (error) {
            // Its buffer is given up: something may still read from it.
            failed = { error };
          }
          if (last) await this.#answerWrite(request, failed);
          else step(at + size);
        });
        if (last) this.#next();
      });
    };
    step(0);
  }

  async #answerWrite(request: Request, failed: { readonly error: unknown } | undefined): Promise<void> {
    const { headers, served } = this.#agreement;
    let problem = failed;
    try {
      if (!problem && (request.flags & COMMAND_FLAG.FUA) !== 0) await served.changes?.flush();
    } catch (error) {
      problem = { error };
    }
    if (problem) this.#onProblem(problem.error);
    await this.#queue.send(problem ? encodeFailed(request, headers, errorNumberOf(problem.error)) : encodeDone(request, headers));
  }

  /** The client has said goodbye, or we have: what is in flight is still answered. */
  #leave(): void {
    this.#leaving = true;
    if (this.#inFlight > 0 || this.#ended) return;
    this.#ended = true;
    this.#idle.resolve();
    this.#feed.detach();
    // All replies are with the system.
    endSoftly(this.#agreement.socket);
  }

  #end(error?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#inFlight === 0) this.#idle.resolve();
    if (error !== undefined) this.#onProblem(error);
    this.#feed.detach();
    this.#agreement.socket.destroy();
  }
}

async function change(changes: DiskChanges, { command, offset, length, flags }: Request): Promise<void> {
  if (command === COMMAND.WRITE_ZEROES) await changes.zero(offset, length, (flags & COMMAND_FLAG.NO_HOLE) !== 0);
  else if (command === COMMAND.TRIM) await changes.trim(offset, length);
  if (command === COMMAND.FLUSH || (flags & COMMAND_FLAG.FUA) !== 0) await changes.flush();
}
