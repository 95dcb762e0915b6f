// What a restore point reads as, cluster by cluster, by the record of its digests: down a chain the newest entry wins.

import { DIGEST_BYTES } from '../plumbing/blake3.ts';
import { type ExpectedRange, type ExpectedView, RANGE_CLUSTERS } from '../transfer/expected-view.ts';
import { CLUSTER } from '../transfer/unit.ts';
import { RECORD, RECORD_BYTES } from './digests-format.ts';
import type { DigestsReader, Section } from './digests-reader.ts';

// Planner and recorder look at the same few ranges, the planner a little ahead.
const CACHED_RANGES = 8;

export interface ViewRange extends ExpectedRange {
  /** Per cluster: index of the deciding backup in the list that was given, plus 1; 0 where nothing decides. */
  readonly deciders: Uint16Array;
}

/** A view over digests files, newest first. One file alone is what one image decides. */
export class ChainView implements ExpectedView {
  readonly #readers: readonly DigestsReader[];
  readonly #cache = new Map<number, Promise<ViewRange | undefined>>();

  constructor(readers: readonly DigestsReader[]) {
    this.#readers = readers;
  }

  range(index: number): Promise<ViewRange | undefined> {
    let found = this.#cache.get(index);
    if (!found) {
      found = this.#load(index);
      this.#cache.set(index, found);
      const [oldest] = this.#cache.keys();
      if (this.#cache.size > CACHED_RANGES && oldest !== undefined) this.#cache.delete(oldest);
    }
    return found;
  }

  async #load(index: number): Promise<ViewRange | undefined> {
    let range: ViewRange | undefined;
    for (const [position, reader] of this.#readers.entries()) {
      const section = await reader.section(index);
      if (!section) continue;
      range ??= emptyRange();
      addBelow(range, section, position + 1);
    }
    return range;
  }
}

function emptyRange(): ViewRange {
  return {
    kinds: new Uint8Array(RANGE_CLUSTERS),
    digests: new Uint8Array(RANGE_CLUSTERS * DIGEST_BYTES),
    storedLengths: new Uint32Array(RANGE_CLUSTERS),
    crcs: new Uint32Array(RANGE_CLUSTERS),
    deciders: new Uint16Array(RANGE_CLUSTERS),
  };
}

/** Enters the records of an older backup where nothing newer has decided. */
function addBelow(range: ViewRange, { records }: Section, decider: number): void {
  for (let at = 0; at < records.length; at += RECORD_BYTES) {
    const cluster = records.readUInt16BE(at + RECORD.CLUSTER);
    if (range.kinds[cluster] !== CLUSTER.UNKNOWN) continue;
    range.kinds[cluster] = records.readUInt8(at + RECORD.KIND);
    range.deciders[cluster] = decider;
    range.storedLengths[cluster] = records.readUInt32BE(at + RECORD.STORED_LENGTH);
    range.crcs[cluster] = records.readUInt32BE(at + RECORD.CRC);
    range.digests.set(records.subarray(at + RECORD.DIGEST, at + RECORD.DIGEST + DIGEST_BYTES), cluster * DIGEST_BYTES);
  }
}

/** The digests of a range as the leaves of its hash: 32 zero bytes where it reads as zeros. `leaves` is memory to use again. */
export function leavesOf(range: ExpectedRange | undefined, leaves: Buffer = Buffer.alloc(RANGE_CLUSTERS * DIGEST_BYTES)): Buffer {
  leaves.fill(0);
  if (!range) return leaves;
  for (let cluster = 0; cluster < RANGE_CLUSTERS; cluster++) {
    if (range.kinds[cluster] !== CLUSTER.DATA) continue;
    const at = cluster * DIGEST_BYTES;
    leaves.set(range.digests.subarray(at, at + DIGEST_BYTES), at);
  }
  return leaves;
}
