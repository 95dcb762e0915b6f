// A blob being written in the process of a repository, at offsets that the asking process has claimed.
// It flushes as it goes: what is left for the end must be little, because the time for that is limited.

import { fdatasync, write } from 'node:fs';
import { promisify } from 'node:util';
import type { ByteSink, DirectAppend } from '../../plumbing/byte-sink.ts';
import { assert } from '../../plumbing/errors.ts';

/**
 * Bytes that may wait in memory for the server. Not more: a flush of them must end within the time limit of one call, also on a slow line.
 * Not less: each flush waits for the server's disk.
 */
const UNFLUSHED_BYTES = 32 * 1024 * 1024;

const writeAt = promisify(write);
const flushData = promisify(fdatasync);

export class ServedSink {
  readonly #sink: ByteSink;
  readonly #direct: DirectAppend;
  #unflushed = 0;
  #flushing: Promise<void> | undefined;

  constructor(sink: ByteSink) {
    const { direct } = sink;
    assert(direct !== undefined, 'a file on a mounted share has a descriptor');
    this.#sink = sink;
    this.#direct = direct;
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    await this.#orFail(async () => {
      for (let done = 0; done < bytes.byteLength; ) {
        const { bytesWritten } = await writeAt(this.#direct.fd, bytes, done, bytes.byteLength - done, offset + done);
        assert(bytesWritten > 0, `a write to ${this.#sink.name} wrote nothing`);
        done += bytesWritten;
      }
    });
    this.#unflushed += bytes.byteLength;
    if (this.#unflushed >= UNFLUSHED_BYTES) await this.flush();
  }

  /** One at a time; who comes meanwhile waits for that one, and so nobody writes faster than the server takes it. */
  async flush(): Promise<void> {
    this.#flushing ??= this.#flushNow().finally(() => {
      this.#flushing = undefined;
    });
    await this.#flushing;
  }

  async #flushNow(): Promise<void> {
    this.#unflushed = 0;
    await this.#orFail(() => flushData(this.#direct.fd));
  }

  /** `claimed`: bytes that the asking process has given places to, the head among them. */
  finish(head: Uint8Array, claimed: number): Promise<{ size: number }> {
    Atomics.store(this.#direct.next, 0, BigInt(claimed));
    return this.#sink.finish(head);
  }

  abort(): Promise<void> {
    return this.#sink.abort();
  }

  /** The sink keeps the first failure: the kernel reports a lost write once, and then never again. */
  async #orFail(work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      throw await this.#direct.fail(error);
    }
  }
}
