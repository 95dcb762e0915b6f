// Which clusters of a disk may differ from the parent, as whoever keeps its changes says. All others are not read.
// The answer is taken once and kept: planner and recorder must not hear two answers, for what one leaves out the other takes for zeros.

import type { ByteRange } from '../disk/extent.ts';
import { throwIfCancelled } from '../plumbing/errors.ts';
import { RANGE_CLUSTERS } from './expected-view.ts';

export interface ChangedClustersOptions {
  readonly clusterSize: number;
  /** Bytes of the disk now, and of the parent: what lies behind the parent's end is changed, whatever the list says. */
  readonly totalBytes: number;
  readonly parentBytes: number;
  readonly signal?: AbortSignal | undefined;
  /** Stretches that are kept; where there are more, the smallest gaps between them count as changed. */
  readonly mostStretches?: number;
}

/** 16 MiB. */
const MOST_STRETCHES = 2 ** 20;

export class ChangedClusters {
  /** First cluster and the one behind the last, in ascending order, without touching each other. */
  readonly #stretches: readonly number[];
  /** How many clusters may differ. */
  readonly count: number;

  constructor(stretches: readonly number[]) {
    this.#stretches = stretches;
    this.count = stretches.reduce((sum, border, at) => sum + (at % 2 === 0 ? -border : border), 0);
  }

  /** One byte per cluster of a range of the disk, 1 where it may differ; undefined where none of them does. */
  range(index: number): Uint8Array | undefined {
    const first = index * RANGE_CLUSTERS;
    let changed: Uint8Array | undefined;
    for (let at = this.#firstEndingBehind(first); at < this.#stretches.length; at += 2) {
      const from = (this.#stretches[at] ?? 0) - first;
      if (from >= RANGE_CLUSTERS) break;
      changed ??= new Uint8Array(RANGE_CLUSTERS);
      changed.fill(1, Math.max(0, from), Math.min(RANGE_CLUSTERS, (this.#stretches[at + 1] ?? 0) - first));
    }
    return changed;
  }

  #firstEndingBehind(cluster: number): number {
    let low = 0;
    let high = this.#stretches.length / 2;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if ((this.#stretches[2 * middle + 1] ?? 0) > cluster) high = middle;
      else low = middle + 1;
    }
    return 2 * low;
  }
}

/** Widens what changed to whole clusters. `changed` must ascend; it may reach behind the end of the disk. */
export async function readChangedClusters(
  changed: AsyncIterable<ByteRange>,
  { clusterSize, totalBytes, parentBytes, signal, mostStretches = MOST_STRETCHES }: ChangedClustersOptions,
): Promise<ChangedClusters> {
  const clusters = Math.ceil(totalBytes / clusterSize);
  let stretches: number[] = [];
  let gap = 0;
  const add = (first: number, last: number): void => {
    const end = stretches.at(-1);
    if (end !== undefined && first <= end + gap) stretches[stretches.length - 1] = Math.max(end, last);
    else if (last > first) stretches.push(first, last);
    while (stretches.length > 2 * mostStretches) {
      gap = Math.max(1, 2 * gap);
      stretches = withoutGaps(stretches, gap);
    }
  };
  for await (const { offset, length } of changed) {
    throwIfCancelled(signal);
    if (length > 0) add(Math.floor(offset / clusterSize), Math.min(clusters, Math.ceil((offset + length) / clusterSize)));
  }
  // The cluster in which the parent ends had zeros behind its end.
  if (totalBytes > parentBytes) addTail(stretches, Math.floor(parentBytes / clusterSize), clusters);
  return new ChangedClusters(stretches);
}

function withoutGaps(stretches: readonly number[], gap: number): number[] {
  const joined: number[] = [];
  for (let at = 0; at < stretches.length; at += 2) {
    const [first = 0, last = 0] = [stretches[at], stretches[at + 1]];
    const end = joined.at(-1);
    if (end !== undefined && first <= end + gap) joined[joined.length - 1] = last;
    else joined.push(first, last);
  }
  return joined;
}

function addTail(stretches: number[], first: number, last: number): void {
  let from = first;
  while (stretches.length > 0 && (stretches.at(-1) ?? 0) >= from) {
    stretches.pop();
    from = Math.min(from, stretches.pop() ?? from);
  }
  stretches.push(from, last);
}
