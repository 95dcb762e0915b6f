// The negotiation as a conversation: say something, wait for so many bytes. For both sides, before transmission begins.
// Must not wait for ever: whoever opens it closes the socket when its time is over.

import type { Duplex } from 'node:stream';
import { ChainkeepError } from '../plumbing/errors.ts';
import { ByteFeed } from './byte-feed.ts';

export class ByteDialog {
  readonly #socket: Duplex;
  readonly #feed: ByteFeed;
  #ended: { readonly error: unknown } | undefined;
  #reject: ((error: unknown) => void) | undefined;
  readonly #onError = (error: Error): void => this.#end(error);
  readonly #onEnd = (): void => this.#end(connectionClosed());

  constructor(socket: Duplex) {
    this.#socket = socket;
    this.#feed = new ByteFeed(socket, (error) => this.#end(error));
    socket.on('error', this.#onError);
    socket.on('end', this.#onEnd);
    socket.on('close', this.#onEnd);
  }

  /** The next `length` bytes. Rejects with CONNECTION_FAILED when the other side ends before. */
  take(length: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (this.#ended) {
        reject(this.#ended.error);
        return;
      }
      this.#reject = reject;
      const bytes = Buffer.alloc(length);
      this.#feed.expect(bytes, () => {
        this.#reject = undefined;
        resolve(bytes);
      });
    });
  }

  send(bytes: Uint8Array): void {
    if (!this.#ended) this.#socket.write(bytes);
  }

  /** Resolves when the other side has taken what was sent, but for what fits between: who asks and does not listen is not to fill our memory. */
  async drained(): Promise<void> {
    if (this.#ended || !this.#socket.writableNeedDrain) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.#socket.off('drain', done).off('close', done);
        resolve();
      };
      this.#socket.on('drain', done).on('close', done);
    });
  }

  /** Stops listening, so that another can. Answers what came in and was not taken. Errors of the socket stay heard, and are nobody's. */
  leave(): Buffer {
    this.#socket.off('end', this.#onEnd);
    this.#socket.off('close', this.#onEnd);
    const ended = this.#ended;
    if (ended) throw ended.error;
    this.#ended = { error: connectionClosed() };
    this.#socket.pause();
    return this.#feed.detach();
  }

  #end(error: unknown): void {
    if (this.#ended) return;
    this.#ended = { error: error instanceof ChainkeepError ? error : connectionClosed(error) };
    this.#reject?.(this.#ended.error);
  }
}

/** The other side is gone in the middle of something. */
export function connectionClosed(cause?: unknown): ChainkeepError {
  const why = cause instanceof Error ? `: ${cause.message}` : '';
  return new ChainkeepError('CONNECTION_FAILED', `the connection was closed by the other side${why}`, {
    advice: 'look at the log of the other side; it may refuse this client, or have ended',
    retryable: true,
    cause,
  });
}
