// Buffers that are used again and again: a fresh one for each request would cost more than reading the bytes into it.
// What is in a buffer that was taken is old: whoever takes it fills all that he hands out.

const SMALLEST = 4096;

export class BufferPool {
  readonly #free = new Map<number, Buffer[]>();
  readonly #most: number;
  #kept = 0;

  /** `most`: bytes that are kept while nobody uses them. */
  constructor(most: number) {
    this.#most = most;
  }

  /** At least `length` bytes. */
  take(length: number): Buffer {
    const size = sizeFor(length);
    const buffer = this.#free.get(size)?.pop();
    if (!buffer) return Buffer.allocUnsafeSlow(size);
    this.#kept -= size;
    return buffer;
  }

  /** A buffer as `take` gave it, once nobody reads or writes it any more. */
  give(buffer: Buffer): void {
    const size = buffer.length;
    if (this.#kept + size > this.#most) return;
    this.#kept += size;
    const free = this.#free.get(size);
    if (free) free.push(buffer);
    else this.#free.set(size, [buffer]);
  }
}

/** Powers of 2, each with a page more: requests are powers of 2, and a head goes in front of them. */
function sizeFor(length: number): number {
  let size = SMALLEST;
  while (size + SMALLEST < length) size *= 2;
  return size + SMALLEST;
}
