// A blob of a mounted share being written: places are claimed here, bytes go to the repository's process in pieces.
// After a failure nothing succeeds any more: what that process could not write is not known to be anywhere.

import type { ByteSink } from '../../plumbing/byte-sink.ts';
import { SinkLife } from '../sink-life.ts';
import { PIECE } from './mounted-source.ts';
import type { StorageChild } from './storage-child.ts';

export class MountedSink implements ByteSink {
  readonly name: string;
  readonly #child: StorageChild;
  readonly #number: number;
  readonly #life: SinkLife;
  #next: number;

  constructor(child: StorageChild, blob: { readonly name: string; readonly number: number; readonly headLength: number }) {
    this.#child = child;
    this.name = blob.name;
    this.#number = blob.number;
    this.#life = new SinkLife(blob.name, blob.headLength);
    this.#next = blob.headLength;
  }

  async append(buffers: readonly Uint8Array[]): Promise<number> {
    this.#life.checkOpen();
    const offset = this.#next;
    await this.#life.append(() => this.#send(buffers));
    return offset;
  }

  async #send(buffers: readonly Uint8Array[]): Promise<void> {
    const pieces: Promise<null>[] = [];
    try {
      for (const body of cutToPieces(buffers)) {
        pieces.push(this.#child.ask<'write'>({ op: 'write', sink: this.#number, offset: this.#next }, { body }));
        for (const part of body) this.#next += part.byteLength;
      }
      await Promise.all(pieces);
    } finally {
      await Promise.allSettled(pieces); // the caller's buffers are his again when this call has ended
    }
  }

  async finish(head: Uint8Array): Promise<{ size: number }> {
    return this.#life.finish(head, () => this.#finish(head));
  }

  async #finish(head: Uint8Array): Promise<{ size: number }> {
    // By itself, with a time limit of its own: what is left to do after it is short.
    await this.#child.ask<'flush'>({ op: 'flush', sink: this.#number });
    return this.#child.ask<'finish'>({ op: 'finish', sink: this.#number, claimed: this.#next }, { body: [head] });
  }

  async abort(): Promise<void> {
    if (await this.#life.abort()) await this.#child.ask<'abort'>({ op: 'abort', sink: this.#number });
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
