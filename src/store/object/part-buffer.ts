// The memory of one part of a blob. It grows as it fills: a small blob must not cost the memory of a large part.
// It knows nothing of requests.

const FIRST_BYTES = 64 * 1024;

export class PartBuffer {
  number: number;
  /** Where the part begins in the blob. */
  offset: number;
  /** Most bytes of the part. */
  readonly size: number;
  length = 0;
  #memory: Buffer;

  constructor(number: number, offset: number, size: number) {
    this.number = number;
    this.offset = offset;
    this.size = size;
    this.#memory = Buffer.allocUnsafeSlow(Math.min(size, FIRST_BYTES));
  }

  /** Where the next part begins. */
  get end(): number {
    return this.offset + this.size;
  }

  /** The same memory for another part of the same size. */
  reuse(number: number, offset: number): this {
    this.number = number;
    this.offset = offset;
    this.length = 0;
    return this;
  }

  /** Writes what fits of `bytes` at `at`, a place of the blob inside of this part; answers how many. */
  write(bytes: Uint8Array, at: number): number {
    const start = at - this.offset;
    const count = Math.min(bytes.byteLength, this.size - start);
    this.#grow(start + count);
    this.#memory.set(count === bytes.byteLength ? bytes : bytes.subarray(0, count), start);
    this.length = Math.max(this.length, start + count);
    return count;
  }

  bytes(): Buffer {
    return this.#memory.subarray(0, this.length);
  }

  #grow(needed: number): void {
    if (needed <= this.#memory.byteLength) return;
    // Four times as large each: what is copied on the way stays small against the part.
    const larger = Buffer.allocUnsafeSlow(Math.min(this.size, Math.max(needed, this.#memory.byteLength * 4)));
    larger.set(this.#memory.subarray(0, this.length));
    this.#memory = larger;
  }
}
