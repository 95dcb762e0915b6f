// A blob of a mounted share being read: each range by a question to the repository's process, large ones in pieces.
// Each piece has the whole time limit: a slow share is slow, not hung.

import type { ByteSource } from '../../plumbing/byte-source.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import type { StorageChild } from './storage-child.ts';

/** Bytes of one question: small enough for a slow line to answer within the limit, large enough that the way there costs nothing. */
export const PIECE = 1024 * 1024;

export class MountedSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #child: StorageChild;
  readonly #number: number;
  #closed = false;

  constructor(child: StorageChild, blob: { readonly name: string; readonly size: number; readonly number: number }) {
    this.#child = child;
    this.name = blob.name;
    this.size = blob.size;
    this.#number = blob.number;
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    const length = buffer.byteLength;
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + length > this.size) {
      throw new ChainkeepError('STORE_FAILED', `read outside of ${this.name}: ${length} bytes at ${offset}, its size is ${this.size}`, {
        context: { offset, length, size: this.size },
      });
    }
    const pieces: Promise<null>[] = [];
    for (let done = 0; done < length; done += PIECE) {
      const into = buffer.subarray(done, Math.min(length, done + PIECE));
      const request = { op: 'read', source: this.#number, offset: offset + done, length: into.byteLength } as const;
      pieces.push(this.#child.ask<'read'>(request, { into }));
    }
    try {
      await Promise.all(pieces);
    } catch (error) {
      await Promise.allSettled(pieces); // the caller's buffer is his again when this call has ended
      throw error;
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (!this.#child.loss) await this.#child.ask<'release'>({ op: 'release', source: this.#number });
  }
}
