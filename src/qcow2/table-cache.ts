// Tables of images in memory, up to a number of bytes, the longest unused leaving first; one cache may serve a whole chain.
// It must not know what a table means.

import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ByteSource } from '../plumbing/byte-source.ts';

export const DEFAULT_TABLE_CACHE_BYTES = 16 * 1024 ** 2;
/** Neighbouring tables are read at once up to this many bytes. */
const MOST_BYTES_AT_ONCE = 1024 ** 2;
/** A long walk over tables in memory lets others have their turn after so many milliseconds. */
const LONGEST_TURN_MS = 20;

export interface TableCache {
  get(key: string): DataView | undefined;
  put(key: string, table: DataView): void;
}

export function createTableCache(limit: number = DEFAULT_TABLE_CACHE_BYTES): TableCache {
  const tables = new Map<string, DataView>(); // a Map keeps the order of insertion: the first is the longest unused
  let bytes = 0;
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
      bytes += table.byteLength - (tables.get(key)?.byteLength ?? 0);
      tables.delete(key);
      tables.set(key, table);
      for (const [oldKey, old] of tables) {
        if (bytes <= limit) break;
        tables.delete(oldKey);
        bytes -= old.byteLength;
      }
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

  /** The tables of `length` bytes each at `offsets`, in that order; what is not in memory is read in few large reads. */
  async load(offsets: readonly number[], length: number): Promise<DataView[]> {
    const found = new Map<number, DataView>();
    const missing: number[] = [];
    for (const offset of new Set(offsets)) {
      const table = this.#cache.get(this.#key(offset, length));
      if (table) found.set(offset, table);
      else missing.push(offset);
    }
    if (missing.length === 0) await this.#giveTurn();
    const read = await Promise.all(groupNeighbours(missing, length).map((group) => this.#readGroup(group, length)));
    for (const [offset, table] of read.flat()) {
      this.#cache.put(this.#key(offset, length), table);
      found.set(offset, table);
    }
    return offsets.flatMap((offset) => found.get(offset) ?? []);
  }

  /** Without I/O nothing else in this process would run while a table of an image is walked a million times. */
  async #giveTurn(): Promise<void> {
    if (performance.now() - this.#turnStarted < LONGEST_TURN_MS) return;
    await nextTurn();
    this.#turnStarted = performance.now();
  }

  async #readGroup(group: readonly number[], length: number): Promise<[number, DataView][]> {
    const buffer = new ArrayBuffer(group.length * length);
    await this.#source.read(new Uint8Array(buffer), group[0] ?? 0);
    if (group.length === 1) return [[group[0] ?? 0, new DataView(buffer)]];
    // Each table gets memory of its own: one that stays in the cache must not hold the whole group.
    return group.map((offset, index) => [offset, new DataView(buffer.slice(index * length, (index + 1) * length))]);
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
