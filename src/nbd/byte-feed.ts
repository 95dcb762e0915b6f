// What comes out of a socket, in pieces of the length that is asked for: each byte is copied at most once, to where it belongs.
// Whoever asks for nothing hears nothing: the socket is paused then, and the other side has to wait.

import type { Duplex } from 'node:stream';
import { DirectSocket, type Receiver } from './direct-socket.ts';

/** What is longer is read to where it belongs in the first place, where the socket can do that. */
const DIRECT_BYTES = 4096;

export class ByteFeed implements Receiver {
  readonly #socket: Duplex;
  #into: Uint8Array | undefined;
  #wanted = 0;
  #done = 0;
  #then: (() => void) | undefined;
  /** Came in and was not asked for. */
  #rest: Buffer | undefined;
  #pumping = false;
  #detached = false;
  #starved: (() => void) | undefined;
  readonly #fail: (error: unknown) => void;
  readonly #onData = (chunk: Buffer): void => this.#push(chunk);
  /** For what is short: used again and again. */
  #scratch: Buffer | undefined;

  /** `fail` hears what a `then` throws: a breach of the protocol, say. Nothing is handed out afterwards. */
  constructor(socket: Duplex, fail: (error: unknown) => void) {
    this.#socket = socket;
    this.#fail = fail;
    if (socket instanceof DirectSocket) socket.receiver = this;
    else socket.on('data', this.#onData);
  }

  /** Where the next bytes go; see Receiver. */
  room(): Uint8Array {
    if (this.#into && this.#wanted - this.#done >= DIRECT_BYTES) return this.#into.subarray(this.#done, this.#wanted);
    this.#scratch ??= Buffer.allocUnsafeSlow(DIRECT_BYTES);
    return this.#scratch;
  }

  /** See Receiver. */
  took(count: number, room: Uint8Array): void {
    this.#push(Buffer.from(room.buffer, room.byteOffset, count));
  }

  /** Calls `then` once `into` is full. Only one piece is asked for at a time; `then` may ask for the next. */
  expect(into: Uint8Array, then: () => void): void {
    this.#want(into.length, into, then);
  }

  /** Like `expect`, for bytes that nobody needs. */
  skip(length: number, then: () => void): void {
    this.#want(length, undefined, then);
  }

  /** Nothing more will come: calls `starved` once more is asked for than has come. */
  finish(starved: () => void): void {
    this.#starved = starved;
    if (this.#isWaiting()) starved();
  }

  /**
   * Stops listening, for good; answers what came in and was not asked for. Nothing is written to any buffer afterwards, if a socket
   * that was asked for a piece of it is destroyed in the same breath.
   */
  detach(): Buffer {
    this.#detached = true;
    this.#then = undefined;
    this.#into = undefined;
    if (!(this.#socket instanceof DirectSocket)) this.#socket.off('data', this.#onData);
    else if (this.#socket.receiver === this) this.#socket.receiver = undefined;
    const rest = this.#rest;
    this.#rest = undefined;
    return rest ?? Buffer.alloc(0);
  }

  #want(length: number, into: Uint8Array | undefined, then: () => void): void {
    if (this.#detached) return;
    if (this.#then) throw new RangeError('two pieces of one feed were asked for at a time');
    this.#into = into;
    this.#wanted = length;
    this.#done = 0;
    this.#then = then;
    if (this.#pumping) return;
    const rest = this.#rest;
    this.#rest = undefined;
    if (rest) this.#push(rest);
    else if (length === 0) this.#push(Buffer.alloc(0));
    else this.#starved?.();
    if (this.#isWaiting() && this.#socket.isPaused()) this.#socket.resume();
  }

  #isWaiting(): boolean {
    return this.#then !== undefined;
  }

  #push(chunk: Buffer): void {
    this.#pumping = true;
    let at = 0;
    try {
      for (let then = this.#then; then; then = this.#then) {
        const count = Math.min(chunk.length - at, this.#wanted - this.#done);
        if (this.#into && !isPlaced(chunk, this.#into, this.#done)) chunk.copy(this.#into, this.#done, at, at + count);
        at += count;
        this.#done += count;
        if (this.#done < this.#wanted) {
          this.#starved?.();
          return;
        }
        this.#then = undefined;
        this.#into = undefined;
        then();
      }
      this.#keep(chunk, at);
    } catch (error) {
      this.detach();
      this.#fail(error);
    } finally {
      this.#pumping = false;
    }
  }

  #keep(chunk: Buffer, at: number): void {
    if (this.#detached || this.#then || at >= chunk.length) return;
    const more = this.#socket instanceof DirectSocket ? Buffer.from(chunk.subarray(at)) : chunk.subarray(at); // its memory is used again
    this.#rest = this.#rest ? Buffer.concat([this.#rest, more]) : more;
    this.#socket.pause();
  }
}

/** Was the chunk read to where it belongs? */
function isPlaced(chunk: Buffer, into: Uint8Array, done: number): boolean {
  return chunk.buffer === into.buffer && chunk.byteOffset === into.byteOffset + done;
}
