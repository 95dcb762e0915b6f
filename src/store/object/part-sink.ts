// A blob on its way to an object store: appended runs gathered to parts in memory, sent in parallel, the first part held back until the head is known.
// It must not keep more than the plan's memory, and after a failure nothing succeeds any more. What travels, and how often it is tried, is the target's.

import type { ByteSink } from '../../plumbing/byte-sink.ts';
import { type PartPlan, tooLarge } from '../part-plan.ts';
import { SinkLife } from '../sink-life.ts';
import { PartBuffer } from './part-buffer.ts';

/** What a store does with the parts of one blob. Every call is tried again by the target itself where that makes sense. */
export interface PartTarget {
  /** The whole blob in one request; visible when it returns. BLOB_EXISTS where it may only be created. */
  putWhole(content: Uint8Array): Promise<void>;
  /** Part `number`, from 1, in any order and several at the same time; the first call begins the upload. `content` is the target's until it returns. */
  uploadPart(number: number, content: Uint8Array, signal: AbortSignal): Promise<void>;
  /** Parts 1 to `count` are the blob, `size` bytes long; visible when it returns. BLOB_EXISTS where it may only be created. */
  complete(count: number, size: number): Promise<void>;
  /** Takes back what was sent, and a blob that became visible though its writer was told of a failure, where it was to be created. */
  abort(): Promise<void>;
}

/** A blob up to this size goes in one request, when none of its parts has left yet. */
const MOST_WHOLE = 32 * 2 ** 20;

class PartSink implements ByteSink {
  readonly name: string;
  readonly #plan: PartPlan;
  readonly #headLength: number;
  readonly #life: SinkLife;
  readonly #target: PartTarget;
  readonly #cancel = new AbortController();
  readonly #sending = new Set<Promise<void>>();
  readonly #spare: PartBuffer[] = [];
  /** Parts with bytes of the head: they wait for `finish`. Almost always one. */
  readonly #held: PartBuffer[] = [];
  #filling: PartBuffer;
  #next: number;
  #sent = 0;
  /** Appends copy one after another, in the order in which they took their places. */
  #copying: Promise<void> = Promise.resolve();

  constructor(name: string, headLength: number, plan: PartPlan, target: PartTarget) {
    this.name = name;
    this.#headLength = headLength;
    this.#life = new SinkLife(name, headLength, (error) => this.#fail(error));
    this.#plan = plan;
    this.#target = target;
    this.#next = headLength;
    this.#filling = new PartBuffer(1, 0, plan.firstPartSize);
  }

  async append(buffers: readonly Uint8Array[]): Promise<number> {
    this.#life.checkOpen();
    const offset = this.#next;
    for (const buffer of buffers) this.#next += buffer.byteLength;
    const run = this.#life.append(() => this.#copying.then(() => this.#copy(buffers, offset)));
    this.#copying = run.catch(() => undefined); // for the next one to wait on; the caller of this one gets the error
    await run;
    return offset;
  }

  /** Waits where all buffers are on their way: whoever appends goes no faster than the network. */
  async #copy(buffers: readonly Uint8Array[], offset: number): Promise<void> {
    const end = offset + buffers.reduce((sum, buffer) => sum + buffer.byteLength, 0);
    if (end > this.#plan.maxBytes) throw tooLarge(this.name, end, this.#plan.maxBytes);
    let at = offset;
    for (const buffer of buffers) {
      for (let done = 0; done < buffer.byteLength; ) {
        this.#life.checkAlive();
        while (at >= this.#filling.end) await this.#turn();
        const count = this.#filling.write(buffer.subarray(done), at);
        done += count;
        at += count;
      }
    }
  }

  /** The part is full: off with it, and on with the next. */
  async #turn(): Promise<void> {
    const full = this.#filling;
    if (full.offset < this.#headLength) this.#held.push(full);
    else await this.#send(full);
    const size = this.#plan.partSize;
    this.#filling = this.#spare.pop()?.reuse(full.number + 1, full.end) ?? new PartBuffer(full.number + 1, full.end, size);
  }

  async #send(part: PartBuffer): Promise<void> {
    while (this.#sending.size >= this.#plan.concurrency) await Promise.race(this.#sending);
    this.#life.checkAlive();
    this.#sent += 1;
    const sending = this.#target.uploadPart(part.number, part.bytes(), this.#cancel.signal).then(
      () => {
        this.#sending.delete(sending);
        if (part.size === this.#plan.partSize) this.#spare.push(part);
      },
      (error: unknown) => {
        this.#sending.delete(sending);
        this.#fail(error);
      },
    );
    this.#sending.add(sending);
  }

  async finish(head: Uint8Array): Promise<{ size: number }> {
    await this.#life.finish(head, () => this.#finish(head));
    return { size: this.#next };
  }

  async #finish(head: Uint8Array): Promise<void> {
    await this.#placeHead(head);
    const rest = [...this.#held, this.#filling].filter((part) => part.length > 0);
    if (this.#sent === 0 && (this.#next <= MOST_WHOLE || rest.length < 2)) {
      const [first] = rest;
      await this.#target.putWhole(rest.length > 1 || !first ? Buffer.concat(rest.map((part) => part.bytes())) : first.bytes());
      return;
    }
    for (const part of rest) await this.#send(part);
    await Promise.all(this.#sending);
    this.#life.checkAlive();
    await this.#target.complete(this.#sent, this.#next);
  }

  /** A head longer than what was appended behind it may still lie in parts that are not there. */
  async #placeHead(head: Uint8Array): Promise<void> {
    while (this.#filling.end < head.byteLength) await this.#turn();
    for (const part of [...this.#held, this.#filling]) {
      if (part.offset < head.byteLength) part.write(head.subarray(part.offset), part.offset);
    }
  }

  async abort(): Promise<void> {
    if (!(await this.#life.abort(() => this.#cancel.abort()))) return;
    await this.#copying;
    await Promise.allSettled(this.#sending);
    await this.#target.abort();
  }

  /** What is on its way is stopped, and must not be taken for what failed. */
  #fail(error: unknown): unknown {
    const first = this.#life.fail(error);
    this.#cancel.abort();
    return first;
  }
}

export function openPartSink(name: string, headLength: number, plan: PartPlan, target: PartTarget): ByteSink {
  return new PartSink(name, headLength, plan, target);
}
