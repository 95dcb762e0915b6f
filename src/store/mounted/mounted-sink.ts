// A blob of a mounted share being written: places are claimed here, bytes go to the repository's process in pieces.
// After a failure nothing succeeds any more: what that process could not write is not known to be anywhere.

import type { ByteSink } from '../../plumbing/byte-sink.ts';
import { assert } from '../../plumbing/errors.ts';
import { PIECE } from './mounted-source.ts';
import type { StorageChild } from './storage-child.ts';

export class MountedSink implements ByteSink {
  readonly name: string;
  readonly #child: StorageChild;
  readonly #number: number;
  readonly #headLength: number;
  #state: 'open' | 'finishing' | 'finished' | 'aborted' = 'open';
  #failure: unknown;
  #next: number;
  #pending = 0;
  #finishing: Promise<unknown> = Promise.resolve();

  constructor(child: StorageChild, blob: { readonly name: string; readonly number: number; readonly headLength: number }) {
    this.#child = child;
    this.name = blob.name;
    this.#number = blob.number;
    this.#headLength = blob.headLength;
    this.#next = blob.headLength;
  }

  async append(buffers: readonly Uint8Array[]): Promise<number> {
    this.#checkOpen();
    const offset = this.#next;
    const pieces: Promise<null>[] = [];
    this.#pending += 1;
    try {
      for (const body of cutToPieces(buffers)) {
        pieces.push(this.#child.ask<'write'>({ op: 'write', sink: this.#number, offset: this.#next }, { body }));
        for (const part of body) this.#next += part.byteLength;
      }
      await Promise.all(pieces);
    } catch (error) {
      await Promise.allSettled(pieces); // the caller's buffers are his again when this call has ended
      throw this.#fail(error);
    } finally {
      this.#pending -= 1;
    }
    return offset;
  }

  async finish(head: Uint8Array): Promise<{ size: number }> {
    this.#checkOpen();
    assert(this.#pending === 0, `finish of ${this.name} while appends are under way`);
    assert(head.byteLength === this.#headLength, `head of ${this.name}: ${head.byteLength} bytes, ${this.#headLength} were announced`);
    this.#state = 'finishing';
    const run = this.#finish(head).catch((error: unknown) => {
      throw this.#fail(error);
    });
    this.#finishing = run.catch(() => undefined); // for abort to wait on; the caller of finish gets the error
    const answer = await run;
    this.#state = 'finished';
    return answer;
  }

  async #finish(head: Uint8Array): Promise<{ size: number }> {
    // By itself, with a time limit of its own: what is left to do after it is short.
    await this.#child.ask<'flush'>({ op: 'flush', sink: this.#number });
    return this.#child.ask<'finish'>({ op: 'finish', sink: this.#number, claimed: this.#next }, { body: [head] });
  }

  async abort(): Promise<void> {
    await this.#finishing;
    if (this.#state === 'finished' || this.#state === 'aborted') return;
    this.#state = 'aborted';
    await this.#child.ask<'abort'>({ op: 'abort', sink: this.#number });
  }

  #checkOpen(): void {
    if (this.#failure !== undefined) throw this.#failure;
    assert(this.#state === 'open', `write to ${this.name}, which is ${this.#state}`);
  }

  #fail(error: unknown): unknown {
    this.#failure ??= error;
    return this.#failure;
  }
}

/** The buffers in their order, as runs of at most PIECE bytes. */
function cutToPieces(buffers: readonly Uint8Array[]): readonly (readonly Uint8Array[])[] {
  const pieces: Uint8Array[][] = [];
  let room = 0;
  for (const buffer of buffers) {
    for (let done = 0; done < buffer.byteLength; ) {
      if (room === 0) {
        pieces.push([]);
        room = PIECE;
      }
      const part = buffer.subarray(done, done + room);
      pieces.at(-1)?.push(part);
      done += part.byteLength;
      room -= part.byteLength;
    }
  }
  return pieces;
}
