// What a restore point reads as, cluster by cluster, by the record of its digests: down a chain the newest entry wins.

import { DIGEST_BYTES } from '../plumbing/blake3.ts';
import { gather } from '../plumbing/gather.ts';
import { keepRecent } from '../plumbing/keep-recent.ts';
import { type ExpectedRange, type ExpectedView, RANGE_CLUSTERS } from '../transfer/expected-view.ts';
import { CLUSTER } from '../transfer/unit.ts';
import { RECORD, RECORD_BYTES } from './digests-format.ts';
import type { DigestsReader, Section } from './digests-reader.ts';

// Planner and recorder look at the same few ranges, the planner a little ahead.
const CACHED_RANGES = 8;

/** One range of a view. It keeps the records as they were read and knows where each cluster's is: a sparse disk has many ranges with little in them. */
export class ViewRange implements ExpectedRange {
  readonly kinds = new Uint8Array(RANGE_CLUSTERS);
  /** Per cluster: index of the deciding backup in the list that was given, plus 1; 0 where nothing decides. */
  readonly deciders = new Uint16Array(RANGE_CLUSTERS);
  /** Per cluster: number of its record among those of the deciding backup. */
  readonly #numbers = new Uint16Array(RANGE_CLUSTERS);
  readonly #records = new Map<number, Buffer>();

  /** Enters the records of an older backup where nothing newer has decided. */
  addBelow({ records }: Section, decider: number): void {
    this.#records.set(decider, records);
    for (let number = 0; number * RECORD_BYTES < records.length; number++) {
      const at = number * RECORD_BYTES;
      const cluster = records.readUInt16BE(at + RECORD.CLUSTER);
      if (this.kinds[cluster] !== CLUSTER.UNKNOWN) continue;
      this.kinds[cluster] = records.readUInt8(at + RECORD.KIND);
      this.deciders[cluster] = decider;
      this.#numbers[cluster] = number;
    }
  }

  digests(first: number, last: number): Uint8Array {
    const digests = new Uint8Array((last - first) * DIGEST_BYTES);
    for (let cluster = first; cluster < last; cluster++) this.copyDigest(cluster, digests, (cluster - first) * DIGEST_BYTES);
    return digests;
  }

  /** Into 32 bytes of `target`; leaves them as they are where nothing decides. */
  copyDigest(cluster: number, target: Uint8Array, at: number): void {
    const records = this.#recordsOf(cluster);
    if (!records) return;
    const start = this.#startOf(cluster) + RECORD.DIGEST;
    records.copy(target, at, start, start + DIGEST_BYTES);
  }

  crcs(first: number, last: number): Uint32Array {
    const crcs = new Uint32Array(last - first);
    for (let cluster = first; cluster < last; cluster++) {
      crcs[cluster - first] = this.#recordsOf(cluster)?.readUInt32BE(this.#startOf(cluster) + RECORD.CRC) ?? 0;
    }
    return crcs;
  }

  storedLength(cluster: number): number {
    return this.#recordsOf(cluster)?.readUInt32BE(this.#startOf(cluster) + RECORD.STORED_LENGTH) ?? 0;
  }

  #recordsOf(cluster: number): Buffer | undefined {
    return this.#records.get(this.deciders[cluster] ?? 0);
  }

  #startOf(cluster: number): number {
    return (this.#numbers[cluster] ?? 0) * RECORD_BYTES;
  }
}

/** A view over digests files, newest first. One file alone is what one image decides. */
export class ChainView implements ExpectedView {
  readonly #readers: readonly DigestsReader[];
  readonly #cache = new Map<number, Promise<ViewRange | undefined>>();

  constructor(readers: readonly DigestsReader[]) {
    this.#readers = readers;
  }

  range(index: number): Promise<ViewRange | undefined> {
    return keepRecent(this.#cache, CACHED_RANGES, index, () => this.#load(index));
  }

  async #load(index: number): Promise<ViewRange | undefined> {
    let range: ViewRange | undefined;
    const sections = await gather(this.#readers, (reader) => reader.section(index));
    for (const [position, section] of sections.entries()) {
      if (!section) continue;
      range ??= new ViewRange();
      range.addBelow(section, position + 1);
    }
    return range;
  }
}

/** The digests of a range as the leaves of its hash: 32 zero bytes where it reads as zeros. `leaves` is memory to use again. */
export function leavesOf(range: ViewRange | undefined, leaves: Buffer = Buffer.alloc(RANGE_CLUSTERS * DIGEST_BYTES)): Buffer {
  leaves.fill(0);
  if (!range) return leaves;
  for (let at = range.kinds.indexOf(CLUSTER.DATA); at >= 0; at = range.kinds.indexOf(CLUSTER.DATA, at + 1)) {
    range.copyDigest(at, leaves, at * DIGEST_BYTES);
  }
  return leaves;
}
