// Tables of images in memory, up to a number of bytes, the longest unused leaving first; one cache may serve a whole chain.
// It must not know what a table means.

import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ByteSource } from '../plumbing/byte-source.ts';

export const DEFAULT_TABLE_CACHE_BYTES = 16 * 1024 ** 2;
/** Neighbouring tables are read at once up to this many bytes. */
const MOST_BYTES_AT_ONCE = 1024 ** 2;
/** A long walk over tables in memory lets others have their turn after so many milliseconds. */
const LONGEST_TURN_MS = 20;
/** Memory of tables that left, kept for the next ones: the collector is slow to see that it is free. */
const SPARE_BYTES = 4 * 1024 ** 2;

export interface TableCache {
  get(key: string): DataView<ArrayBuffer> | undefined;
  put(key: string, table: DataView<ArrayBuffer>): void;
  /** Memory for a table; what it holds is undefined. */
  allocate(length: number): ArrayBuffer;
  /** Says that somebody looks at the table: its memory is not used for another until it is given back as often. */
  use(table: DataView<ArrayBuffer>): void;
  /** A table that is never given back is never used again; that is safe. */
  giveBack(table: DataView): void;
}

export function createTableCache(limit: number = DEFAULT_TABLE_CACHE_BYTES): TableCache {
  const tables = new Map<string, DataView<ArrayBuffer>>(); // a Map keeps the order of insertion: the first is the longest unused
  const inside = new WeakSet<DataView>();
  const users = new WeakMap<DataView, number>();
  let spare: ArrayBuffer[] = [];
  let bytes = 0;

  const recycle = (buffer: ArrayBuffer): void => {
    if (spare[0]?.byteLength !== buffer.byteLength) spare = [];
    if ((spare.length + 1) * buffer.byteLength <= SPARE_BYTES) spare.push(buffer);
  };
  const remove = (key: string, table: DataView<ArrayBuffer>): void => {
    tables.delete(key);
    inside.delete(table);
    bytes -= table.byteLength;
    if (!users.has(table)) recycle(table.buffer);
  };
  return {
    get(key) {
      const table = tables.get(key);
      if (table) {
        tables.delete(key);
        tables.set(key, table);
      }
      return table;
    },
    put(key, table) {
      const before = tables.get(key);
      if (before) remove(key, before);
      tables.set(key, table);
      inside.add(table);
      bytes += table.byteLength;
      for (const [oldKey, old] of tables) {
        if (bytes <= limit) break;
        remove(oldKey, old);
      }
    },
    allocate(length) {
      return (spare[0]?.byteLength === length ? spare.pop() : undefined) ?? new ArrayBuffer(length);
    },
    use(table) {
      users.set(table, (users.get(table) ?? 0) + 1);
    },
    giveBack(table) {
      const left = (users.get(table) ?? 0) - 1;
      if (left > 0) users.set(table, left);
      else if (users.delete(table) && !inside.has(table) && table.buffer instanceof ArrayBuffer) recycle(table.buffer);
    },
  };
}

let images = 0;

/** The tables of one image, through a cache that may be shared with others. */
export class TableReader {
  readonly #source: ByteSource;
  readonly #cache: TableCache;
  readonly #prefix: number;
  #turnStarted = performance.now();

  constructor(source: ByteSource, cache: TableCache) {
    this.#source = source;
    this.#cache = cache;
    images += 1;
    this.#prefix = images;
  }

  /** Keeps a piece that was read already, copied out of the buffer it came in. */
  keep(bytes: Uint8Array, offset: number): void {
    const copy = Uint8Array.from(bytes);
    this.#cache.put(this.#key(offset, copy.length), new DataView(copy.buffer));
  }

  /**
   * The tables of `length` bytes each at `offsets`, in that order; what is not in memory is read in few large reads.
   * Whoever is done with them gives them back; who does not costs memory until the collector comes.
   */
  async load(offsets: readonly number[], length: number): Promise<DataView[]> {
    const found = new Map<number, DataView<ArrayBuffer>>();
    const missing: number[] = [];
    for (const offset of new Set(offsets)) {
      const table = this.#cache.get(this.#key(offset, length));
      if (table) {
        this.#cache.use(table); // before anything else can make it leave
        found.set(offset, table);
      } else missing.push(offset);
    }
    if (missing.length === 0) await this.#giveTurn();
    const read = await Promise.all(groupNeighbours(missing, length).map((group) => this.#readGroup(group, length)));
    for (const [offset, table] of read.flat()) {
      this.#cache.use(table);
      this.#cache.put(this.#key(offset, length), table);
      found.set(offset, table);
    }
    const seen = new Set<number>();
    return offsets.flatMap((offset) => {
      const table = found.get(offset);
      if (table && seen.has(offset)) this.#cache.use(table);
      seen.add(offset);
      return table ?? [];
    });
  }

  /** The tables of one `load`, all of them. */
  giveBack(tables: readonly DataView[]): void {
    for (const table of tables) this.#cache.giveBack(table);
  }

  /** Without I/O nothing else in this process would run while a table of an image is walked a million times. */
  async #giveTurn(): Promise<void> {
    if (performance.now() - this.#turnStarted < LONGEST_TURN_MS) return;
    await nextTurn();
    this.#turnStarted = performance.now();
  }

  async #readGroup(group: readonly number[], length: number): Promise<[number, DataView<ArrayBuffer>][]> {
    const [first = 0] = group;
    if (group.length === 1) {
      const buffer = this.#cache.allocate(length);
      await this.#source.read(new Uint8Array(buffer), first);
      return [[first, new DataView(buffer)]];
    }
    const whole = new Uint8Array(group.length * length);
    await this.#source.read(whole, first);
    // Each table gets memory of its own: one that stays in the cache must not hold the whole group.
    return group.map((offset, index) => {
      const buffer = this.#cache.allocate(length);
      new Uint8Array(buffer).set(whole.subarray(index * length, (index + 1) * length));
      return [offset, new DataView(buffer)];
    });
  }

  #key(offset: number, length: number): string {
    return `${this.#prefix}:${offset}:${length}`;
  }
}

function groupNeighbours(offsets: readonly number[], length: number): number[][] {
  const groups: number[][] = [];
  let group: number[] = [];
  for (const offset of [...offsets].sort((a, b) => a - b)) {
    const last = group.at(-1);
    const follows = last !== undefined && offset === last + length && (group.length + 1) * length <= MOST_BYTES_AT_ONCE;
    if (!follows) {
      group = [];
      groups.push(group);
    }
    group.push(offset);
  }
  return groups;
}
