// What was read from the objects of one store, in runs of blocks, the least recently used dropped first.
// It must not hold more than its limit; a run that is still on its way counts from the moment it was asked for.

export interface Run {
  /** Of one opened object: two openings never share a run. */
  readonly source: object;
  readonly firstBlock: number;
  readonly blocks: number;
  readonly bytes: number;
  /** In pieces as they came: to put them together would cost a copy and fresh memory. */
  readonly data: Promise<readonly Uint8Array[]>;
}

export class BlockCache {
  readonly maxBytes: number;
  /** In the order of their last use. */
  readonly #runs = new Set<Run>();
  readonly #byBlock = new Map<object, Map<number, Run>>();
  readonly #streams = new Set<object>();
  #bytes = 0;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  find(source: object, block: number): Run | undefined {
    const run = this.#byBlock.get(source)?.get(block);
    if (run) {
      this.#runs.delete(run);
      this.#runs.add(run);
    }
    return run;
  }

  has(source: object, block: number): boolean {
    return this.#byBlock.get(source)?.has(block) ?? false;
  }

  add(run: Run): void {
    let blocks = this.#byBlock.get(run.source);
    if (!blocks) {
      blocks = new Map();
      this.#byBlock.set(run.source, blocks);
    }
    for (let block = run.firstBlock; block < run.firstBlock + run.blocks; block += 1) blocks.set(block, run);
    this.#runs.add(run);
    this.#bytes += run.bytes;
    for (const oldest of this.#runs) {
      if (this.#bytes <= this.maxBytes || oldest === run) break;
      this.drop(oldest);
    }
  }

  drop(run: Run): void {
    if (!this.#runs.delete(run)) return;
    this.#bytes -= run.bytes;
    const blocks = this.#byBlock.get(run.source);
    for (let block = run.firstBlock; block < run.firstBlock + run.blocks; block += 1) {
      if (blocks?.get(block) === run) blocks.delete(block);
    }
    if (blocks?.size === 0) this.#byBlock.delete(run.source);
  }

  dropSource(source: object): void {
    for (const run of this.#runs) if (run.source === source) this.drop(run);
    this.#streams.delete(source);
  }

  /** Bytes that one source may ask for ahead, when those that are read in sequence share a quarter of the cache: what was jumped over must stay. */
  fairShare(source: object): number {
    this.#streams.add(source);
    return Math.floor(this.maxBytes / 4 / this.#streams.size);
  }

  leaveStream(source: object): void {
    this.#streams.delete(source);
  }
}
