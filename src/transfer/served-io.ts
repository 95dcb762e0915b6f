// How a worker, which works synchronously, has the main thread read or write where it has no descriptor of its own
// (a socket, a wrapped store). The worker posts the request and sleeps until the answer stands in shared memory.

import type { ServedRequest } from './unit.ts';

type ReadRequest = Extract<ServedRequest, { readonly op: 'read' }>;

const CONTROL_BYTES = 64;
const STATE = 0; // Int32: 0 = waiting, 1 = answered, 2 = failed (the main thread reports the reason itself)
const STOP = 4; // Int32: 1 = the transfer has ended, begin nothing new
const OFFSET_AT = 8; // Float64: where an append landed

const WAITING = 0;
const ANSWERED = 1;
const FAILED = 2;

/** Thrown in a worker whose request failed; the main thread knows the reason and ends the transfer. */
export class ServedRequestFailed extends Error {
  override readonly name = 'ServedRequestFailed';
}

/** Shared memory for one worker: control words, then a payload as large as the largest request. */
export function allocateShared(payloadBytes: number): SharedArrayBuffer {
  return new SharedArrayBuffer(CONTROL_BYTES + payloadBytes);
}

/** Says a worker between two units that its transfer has ended. */
export function stopWork(shared: SharedArrayBuffer): void {
  Atomics.store(new Int32Array(shared, STOP, 1), 0, 1);
}

export function mustStop(shared: SharedArrayBuffer): boolean {
  return Atomics.load(new Int32Array(shared, STOP, 1), 0) === 1;
}

/** The worker's end. */
export class ServedClient {
  readonly #state: Int32Array;
  readonly #offset: Float64Array;
  readonly #payload: Uint8Array;
  readonly #post: (request: ServedRequest) => void;

  constructor(shared: SharedArrayBuffer, post: (request: ServedRequest) => void) {
    this.#state = new Int32Array(shared, STATE, 1);
    this.#offset = new Float64Array(shared, OFFSET_AT, 1);
    this.#payload = new Uint8Array(shared, CONTROL_BYTES);
    this.#post = post;
  }

  read(source: number, buffer: Uint8Array, offset: number): void {
    for (let done = 0; done < buffer.length; ) {
      const length = Math.min(this.#payload.length, buffer.length - done);
      this.#ask({ op: 'read', source, offset: offset + done, length });
      buffer.set(this.#payload.subarray(0, length), done);
      done += length;
    }
  }

  /** All buffers together are at most as large as the payload. */
  append(buffers: readonly Uint8Array[]): number {
    const length = this.#gather(buffers);
    this.#ask({ op: 'append', length });
    return this.#offset[0] ?? 0;
  }

  write(buffers: readonly Uint8Array[], offset: number): void {
    const length = this.#gather(buffers);
    this.#ask({ op: 'write', offset, length });
  }

  #gather(buffers: readonly Uint8Array[]): number {
    let length = 0;
    for (const buffer of buffers) {
      this.#payload.set(buffer, length);
      length += buffer.length;
    }
    return length;
  }

  #ask(request: ServedRequest): void {
    Atomics.store(this.#state, 0, WAITING);
    this.#post(request);
    Atomics.wait(this.#state, 0, WAITING);
    if (Atomics.load(this.#state, 0) === FAILED) throw new ServedRequestFailed(`served ${request.op} failed`);
  }
}

export interface ServedHandlers {
  /** May `read` fill shared memory for this source? Then nothing writes into it once the read has ended, either way. */
  readsIntoShared(source: number): boolean;
  read(source: number, buffer: Uint8Array, offset: number): Promise<void>;
  append(buffer: Uint8Array): Promise<number>;
  write(buffer: Uint8Array, offset: number): Promise<void>;
}

/**
 * The buffer of the last read of each worker, which asks for one thing at a time: a new one for each would keep the collector busy. After a failure it
 * is not used again, for something may still write into it; and what is written is given away, for whoever takes it may keep it.
 */
const readBuffers = new WeakMap<SharedArrayBuffer, Buffer>();

async function serveRead(shared: SharedArrayBuffer, { source, offset, length }: ReadRequest, handlers: ServedHandlers): Promise<void> {
  const place = new Uint8Array(shared, CONTROL_BYTES, length);
  if (handlers.readsIntoShared(source)) return handlers.read(source, place, offset);
  const buffer = readBuffers.get(shared) ?? Buffer.allocUnsafeSlow(shared.byteLength - CONTROL_BYTES);
  readBuffers.delete(shared);
  const part = buffer.subarray(0, length);
  await handlers.read(source, part, offset);
  place.set(part);
  readBuffers.set(shared, buffer);
}

/** The main thread's end: does the request and wakes the worker. Rejects with the reason after it has told the worker. */
export async function serve(shared: SharedArrayBuffer, request: ServedRequest, handlers: ServedHandlers): Promise<void> {
  const state = new Int32Array(shared, STATE, 1);
  let verdict = FAILED;
  try {
    // Most stores and readers take ordinary memory (some refuse shared memory), so there is one copy here.
    if (request.op === 'read') await serveRead(shared, request, handlers);
    else {
      const buffer = Buffer.from(new Uint8Array(shared, CONTROL_BYTES, request.length));
      if (request.op === 'write') await handlers.write(buffer, request.offset);
      else new Float64Array(shared, OFFSET_AT, 1)[0] = await handlers.append(buffer);
    }
    verdict = ANSWERED;
  } finally {
    Atomics.store(state, 0, verdict);
    Atomics.notify(state, 0);
  }
}
