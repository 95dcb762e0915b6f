// How often each cluster of a window of the file is used, and by what.
// A window has a fixed size in memory, whatever the size of the image: 3 bytes a cluster.

/** What a cluster is used for. Compressed clusters share host clusters by design, L2 tables are shared between snapshots. */
export type ClusterUse = 'standard' | 'compressed' | 'l2' | 'structure';

const USES: readonly ClusterUse[] = ['standard', 'compressed', 'l2', 'structure'];
/** Bits of a mark: 0-2 the use plus one, 3 overlap was reported, 4 the stored refcount is one. */
const USE_MASK = 0b111;
const REPORTED = 0b1000;
const STORED_ONE = 0b1_0000;
const MOST = 0xffff;

/** Two uses of one cluster that exclude each other. */
export interface Overlap {
  /** Bytes. */
  readonly hostOffset: number;
  readonly before: ClusterUse;
  readonly now: ClusterUse;
}

export class HostClusters {
  /** Number of the first cluster of the window. */
  readonly first: number;
  readonly count: number;
  readonly #clusterSize: number;
  readonly #exclusive: boolean;
  readonly #references: Uint16Array;
  readonly #marks: Uint8Array;
  /** Counts that do not fit 16 bits. */
  readonly #many = new Map<number, number>();

  /** With `exclusive`, a standard cluster or L2 table that is used twice is an overlap too. */
  constructor(options: { readonly first: number; readonly count: number; readonly clusterSize: number; readonly exclusive: boolean }) {
    this.first = options.first;
    this.count = options.count;
    this.#clusterSize = options.clusterSize;
    this.#exclusive = options.exclusive;
    this.#references = new Uint16Array(options.count);
    this.#marks = new Uint8Array(options.count);
  }

  /** So many references more to each cluster of the window that the bytes touch; answers the overlaps this shows for the first time. */
  add(offset: number, length: number, use: ClusterUse, times = 1): Overlap[] {
    const from = Math.max(0, Math.floor(offset / this.#clusterSize) - this.first);
    const to = Math.min(this.count, Math.ceil((offset + length) / this.#clusterSize) - this.first);
    const code = USES.indexOf(use) + 1;
    const overlaps: Overlap[] = [];
    for (let index = from; index < to; index += 1) {
      const mark = this.#marks[index] ?? 0;
      const before = mark & USE_MASK;
      if (before === 0) this.#marks[index] = mark | code;
      const usedBefore = before !== 0 || times > 1;
      if (usedBefore && (mark & REPORTED) === 0 && this.#excludes(before || code, code)) {
        this.#marks[index] = mark | (before || code) | REPORTED;
        overlaps.push({ hostOffset: (this.first + index) * this.#clusterSize, before: USES[before - 1] ?? use, now: use });
      }
      this.#count(index, times);
    }
    return overlaps;
  }

  /** References counted so far. */
  references(index: number): number {
    const count = this.#references[index] ?? 0;
    return count === MOST ? (this.#many.get(index) ?? MOST) : count;
  }

  /** The first cluster from `index` on that has a reference, `end` where there is none in front of it. */
  nextReferenced(index: number, end: number): number {
    let next = index;
    while (next < end && this.#references[next] === 0) next += 1;
    return next;
  }

  markStoredOne(index: number): void {
    this.#marks[index] = (this.#marks[index] ?? 0) | STORED_ONE;
  }

  /** Is the stored refcount of the cluster at `hostOffset` one? Undefined outside of the window. */
  isStoredOne(hostOffset: number): boolean | undefined {
    const index = Math.floor(hostOffset / this.#clusterSize) - this.first;
    if (index < 0 || index >= this.count) return undefined;
    return ((this.#marks[index] ?? 0) & STORED_ONE) !== 0;
  }

  #excludes(before: number, now: number): boolean {
    if (before !== now) return true;
    if (USES[now - 1] === 'structure') return true;
    return this.#exclusive && USES[now - 1] !== 'compressed';
  }

  #count(index: number, times: number): void {
    const count = this.references(index) + times;
    this.#references[index] = Math.min(count, MOST);
    if (count >= MOST) this.#many.set(index, count);
  }
}
