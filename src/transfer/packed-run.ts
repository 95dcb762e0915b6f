// Compressed clusters of one worker, packed byte by byte into a run of their own that is appended when it is full.
// The run starts and ends on a cluster boundary; what the last cluster leaves over is zero (design: every other byte is zero).

const RUN_BYTES = 1 << 20;

export class PackedRun {
  readonly #clusterSize: number;
  readonly #append: (buffers: readonly Uint8Array[]) => number;
  readonly #buffer: Buffer;
  #used = 0;
  #placed: ((base: number) => void)[] = [];

  constructor(clusterSize: number, append: (buffers: readonly Uint8Array[]) => number) {
    this.#clusterSize = clusterSize;
    this.#append = append;
    this.#buffer = Buffer.alloc(Math.max(RUN_BYTES, 2 * clusterSize));
  }

  get pending(): boolean {
    return this.#used > 0;
  }

  /** Room for the next compressed cluster; writes the run out first when less than `bytes` are left. */
  room(bytes: number): Uint8Array {
    if (this.#buffer.length - this.#used < bytes) this.flush();
    return this.#buffer.subarray(this.#used, this.#used + bytes);
  }

  /** The first `length` bytes of the last room are taken; `placed` hears their offset in the image when the run is written. */
  commit(length: number, placed: (offset: number) => void): void {
    const start = this.#used;
    this.#used += length;
    this.#placed.push((base) => placed(base + start));
  }

  flush(): void {
    if (this.#used === 0) return;
    const end = Math.ceil(this.#used / this.#clusterSize) * this.#clusterSize;
    this.#buffer.fill(0, this.#used, end);
    const base = this.#append([this.#buffer.subarray(0, end)]);
    for (const placed of this.#placed) placed(base);
    this.#used = 0;
    this.#placed = [];
  }
}
