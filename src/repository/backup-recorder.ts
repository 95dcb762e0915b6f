// Records a backup while its units come back in the order of the disk: image tables, digests, hashes of ranges.
// It decides what the image decides: data that differs, zeros where the parent has data, nothing where both are the same or nothing changed.

import { type Blake3, DIGEST_BYTES } from '../plumbing/blake3.ts';
import type { ImageBuilder } from '../qcow2/image-builder.ts';
import type { ChangedClusters } from '../transfer/changed-clusters.ts';
import { RANGE_CLUSTERS } from '../transfer/expected-view.ts';
import { CLUSTER, OUTCOME, type UnitResult } from '../transfer/unit.ts';
import { type ChainView, leavesOf, type ViewRange } from './chain-view.ts';
import { rangeHash } from './digests-format.ts';
import type { DigestsWriter } from './digests-writer.ts';

export interface RecorderOptions {
  readonly builder: ImageBuilder;
  readonly digests: DigestsWriter;
  /** Undefined for a full. */
  readonly parent: ChainView | undefined;
  /** Where it is there, no other cluster was read: they stay as the parent has them. */
  readonly changed: ChangedClusters | undefined;
  readonly blake3: Blake3;
  readonly clusterSize: number;
  readonly totalBytes: number;
}

export class BackupRecorder {
  readonly #options: RecorderOptions;
  /** The next cluster of the disk that is not settled. */
  #next = 0;
  #range = -1;
  #parent: ViewRange | undefined;
  /** Of the open range: 1 for each cluster that was looked at. Undefined: all of them were, or none where there is a list. */
  #changed: Uint8Array | undefined;
  /** What the open range reads as now; made at the first change. */
  #leaves: Buffer | undefined;
  readonly #memory = Buffer.alloc(RANGE_CLUSTERS * DIGEST_BYTES);
  #bytesRead = 0;
  #bytesWritten = 0;
  #clustersWritten = 0;

  constructor(options: RecorderOptions) {
    this.#options = options;
  }

  get bytesRead(): number {
    return this.#bytesRead;
  }

  /** Bytes of cluster data appended to the image. */
  get bytesWritten(): number {
    return this.#bytesWritten;
  }

  get clustersWritten(): number {
    return this.#clustersWritten;
  }

  /** A unit; everything between the last one and this one is a hole in the source and reads as zeros, or is unchanged. */
  async consume(result: UnitResult): Promise<void> {
    const first = result.offset / this.#options.clusterSize;
    await this.#zeroUntil(first);
    // Units never cross the border of a range.
    await this.#enter(Math.floor(first / RANGE_CLUSTERS));
    for (let index = 0; index < result.outcome.length; index++) this.#settle(first + index, result, index);
    this.#next = first + result.outcome.length;
    this.#bytesRead += result.bytesRead;
    this.#bytesWritten += result.bytesWritten;
  }

  /** After the last unit: the rest of the disk is a hole, or unchanged. */
  async finish(): Promise<void> {
    await this.#zeroUntil(Math.ceil(this.#options.totalBytes / this.#options.clusterSize));
    await this.#closeRange();
  }

  #settle(cluster: number, result: UnitResult, index: number): void {
    const outcome = result.outcome[index];
    // A unit reaches from its first to its last changed cluster; those between that are not changed have nothing in them.
    if (outcome === OUTCOME.SAME || this.#isUnchanged(cluster % RANGE_CLUSTERS)) return;
    if (outcome === OUTCOME.ZERO) {
      this.#settleZero(cluster);
      return;
    }
    const { builder, digests } = this.#options;
    const digest = result.digests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES);
    const hostOffset = result.hostOffsets[index] ?? 0;
    const local = cluster % RANGE_CLUSTERS;
    if (outcome === OUTCOME.COMPRESSED) {
      const storedLength = result.storedLengths[index] ?? 0;
      builder.addCompressed(cluster, hostOffset, storedLength);
      digests.add(this.#range, local, { kind: CLUSTER.DATA, digest, storedLength, crc: result.crcs[index] ?? 0 });
    } else {
      builder.addPlain(cluster, hostOffset);
      digests.add(this.#range, local, { kind: CLUSTER.DATA, digest });
    }
    this.#change(local, digest);
    this.#clustersWritten++;
  }

  #settleZero(cluster: number): void {
    const local = cluster % RANGE_CLUSTERS;
    if (this.#parent?.kinds[local] !== CLUSTER.DATA || this.#isUnchanged(local)) return;
    this.#options.builder.addZero(cluster);
    this.#options.digests.add(this.#range, local, { kind: CLUSTER.ZERO });
    this.#change(local, undefined);
  }

  #isUnchanged(local: number): boolean {
    return this.#options.changed !== undefined && this.#changed?.[local] !== 1;
  }

  #change(local: number, digest: Uint8Array | undefined): void {
    this.#leaves ??= leavesOf(this.#parent, this.#memory);
    if (digest) this.#leaves.set(digest, local * DIGEST_BYTES);
    else this.#leaves.fill(0, local * DIGEST_BYTES, (local + 1) * DIGEST_BYTES);
  }

  async #zeroUntil(end: number): Promise<void> {
    while (this.#next < end) {
      const range = Math.floor(this.#next / RANGE_CLUSTERS);
      const start = range * RANGE_CLUSTERS;
      const stop = Math.min(end, start + RANGE_CLUSTERS);
      const { changed } = this.#options;
      if (changed && !(range === this.#range ? this.#changed : changed.range(range))) {
        // Not entered: what the parent has there need not be read.
        this.#next = stop;
        continue;
      }
      await this.#enter(range);
      for (let local = this.#nextData(this.#next - start); local < stop - start; local = this.#nextData(local + 1)) {
        this.#settleZero(start + local);
      }
      this.#next = stop;
    }
  }

  /** The next cluster of the open range, from `local` on, where the parent has data; infinity where there is none. */
  #nextData(local: number): number {
    const found = this.#parent?.kinds.indexOf(CLUSTER.DATA, local) ?? -1;
    return found < 0 ? Number.POSITIVE_INFINITY : found;
  }

  async #enter(range: number): Promise<void> {
    if (range === this.#range) return;
    await this.#closeRange();
    this.#range = range;
    this.#parent = await this.#options.parent?.range(range);
    this.#changed = this.#options.changed?.range(range);
  }

  async #closeRange(): Promise<void> {
    if (!this.#leaves) return;
    await this.#options.digests.closeRange(this.#range, rangeHash(this.#options.blake3, this.#leaves));
    this.#leaves = undefined;
  }
}
