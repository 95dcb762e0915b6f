// A restore point as a disk each of whose bytes was compared with its digest before anybody gets it: for those who read it piece by piece.
// What reads as zeros is what the record says does: a damaged table cannot make zeros out of data.

import type { DiskReader } from '../disk/disk-reader.ts';
import type { ByteRange, Extent } from '../disk/extent.ts';
import { type Blake3, DIGEST_BYTES } from '../plumbing/blake3.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import { keepRecent } from '../plumbing/keep-recent.ts';
import { settle } from '../plumbing/settle.ts';
import { type ClusterCodec, createClusterCodec } from '../qcow2/cluster-codec.ts';
import { RANGE_CLUSTERS } from '../transfer/expected-view.ts';
import { CLUSTER } from '../transfer/unit.ts';
import type { ViewRange } from './chain-view.ts';
import type { OpenedBackup } from './open-backup.ts';
import { PlannedRange, type StoredRun } from './planned-range.ts';

/** Clusters that were read for a part of them: whoever reads a disk in small steps comes again for the rest. */
const KEPT_CLUSTERS = 64;
/** Ranges of which is known where everything is stored: 120 KiB each. */
const KEPT_RANGES = 8;

/** Its `read` throws DIGEST_MISMATCH with backup and guest offset. Closing is left to who opened the backup. */
export function checkedReader(backup: OpenedBackup, blake3: Blake3): DiskReader {
  return new CheckedReader(backup, blake3);
}

/** One range of the disk: what it must read as, and where that is stored. */
interface Range {
  readonly view: ViewRange;
  readonly plan: PlannedRange;
  /** Bytes from the start of the disk. */
  readonly start: number;
}

class CheckedReader implements DiskReader {
  readonly size: number;
  readonly name: string;
  readonly #backup: OpenedBackup;
  readonly #blake3: Blake3;
  readonly #clusterSize: number;
  readonly #clusters = new Map<number, Promise<Buffer>>();
  readonly #ranges = new Map<number, Promise<Range | undefined>>();
  readonly #digests = Buffer.alloc(2 * DIGEST_BYTES);
  #codec: ClusterCodec | undefined;

  constructor(backup: OpenedBackup, blake3: Blake3) {
    this.#backup = backup;
    this.#blake3 = blake3;
    this.#clusterSize = backup.sidecar.qcow2.cluster_size;
    this.size = backup.reader.size;
    this.name = backup.reader.name;
  }

  async *extents(wanted: ByteRange): AsyncGenerator<Extent> {
    let run: Extent | undefined;
    for (const { offset, length } of this.#cut(wanted)) {
      const view = await this.#backup.view.range(this.#indexOf(offset));
      for (const extent of this.#extentsOf(view, { offset, length })) {
        if (run && run.kind !== extent.kind) yield run;
        run = run?.kind === extent.kind ? { ...run, length: run.length + extent.length } : extent;
      }
    }
    if (run) yield run;
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    for (const part of this.#cut({ offset, length: buffer.length })) {
      const target = buffer.subarray(part.offset - offset, part.offset - offset + part.length);
      const range = await this.#range(this.#indexOf(part.offset));
      if (range) await this.#readPart(target, part.offset, range);
      else target.fill(0);
    }
  }

  /** At the borders of ranges. */
  *#cut({ offset, length }: ByteRange): Generator<ByteRange> {
    const rangeBytes = RANGE_CLUSTERS * this.#clusterSize;
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const border = Math.min(end, (this.#indexOf(at) + 1) * rangeBytes);
      yield { offset: at, length: border - at };
      at = border;
    }
  }

  /** Inside one range; neighbours of a kind are one. */
  *#extentsOf(view: ViewRange | undefined, { offset, length }: ByteRange): Generator<Extent> {
    const end = offset + length;
    const kindAt = (at: number): Extent['kind'] =>
      view?.kinds[Math.floor(at / this.#clusterSize) % RANGE_CLUSTERS] === CLUSTER.DATA ? 'data' : 'zero';
    for (let at = offset; at < end; ) {
      const kind = kindAt(at);
      let next = at;
      while (next < end && kindAt(next) === kind) next = Math.min(end, (Math.floor(next / this.#clusterSize) + 1) * this.#clusterSize);
      yield { offset: at, length: next - at, kind };
      at = next;
    }
  }

  async #readPart(target: Uint8Array, offset: number, range: Range): Promise<void> {
    const reads: Promise<void>[] = [];
    for (const extent of this.#extentsOf(range.view, { offset, length: target.length })) {
      const part = target.subarray(extent.offset - offset, extent.offset - offset + extent.length);
      if (extent.kind === 'zero') part.fill(0);
      else reads.push(this.#readData(part, extent.offset, range));
    }
    await settle(reads);
  }

  /** Whole clusters into their place, the first and the last one by way of what is kept. */
  async #readData(part: Uint8Array, offset: number, range: Range): Promise<void> {
    const size = this.#clusterSize;
    const end = offset + part.length;
    const [from, to] = [Math.ceil(offset / size) * size, Math.floor(end / size) * size];
    if (from >= to) {
      for (let at = offset; at < end; at = (Math.floor(at / size) + 1) * size) await this.#copyKept(part, { offset, at, end }, range);
      return;
    }
    if (offset < from) await this.#copyKept(part, { offset, at: offset, end: from }, range);
    await this.#fill(part.subarray(from - offset, to - offset), from, range);
    if (to < end) await this.#copyKept(part, { offset, at: to, end }, range);
  }

  async #copyKept(
    part: Uint8Array,
    { offset, at, end }: { readonly offset: number; readonly at: number; readonly end: number },
    range: Range,
  ): Promise<void> {
    const start = Math.floor(at / this.#clusterSize) * this.#clusterSize;
    const bytes = await keepRecent(this.#clusters, KEPT_CLUSTERS, start, async () => {
      // The last one of a disk is filled up with zeros, as its digest was.
      const cluster = Buffer.alloc(this.#clusterSize);
      await this.#fill(cluster, start, range);
      return cluster;
    });
    part.set(bytes.subarray(at - start, Math.min(end - start, this.#clusterSize)), at - offset);
  }

  /** Whole clusters of data, in full only up to the end of the disk. */
  async #fill(target: Uint8Array, offset: number, range: Range): Promise<void> {
    const first = (offset - range.start) / this.#clusterSize;
    const last = first + target.length / this.#clusterSize;
    const reads: Promise<void>[] = [];
    for (let cluster = first; cluster < last; ) {
      const run = range.plan.run(cluster, last);
      const clusters = run?.clusters ?? 1;
      const part = target.subarray((cluster - first) * this.#clusterSize, (cluster - first + clusters) * this.#clusterSize);
      reads.push(this.#readRun(part, cluster, { range, run }));
      cluster += clusters;
    }
    await settle(reads);
  }

  async #readRun(
    target: Uint8Array,
    cluster: number,
    { range, run }: { readonly range: Range; readonly run: StoredRun | undefined },
  ): Promise<void> {
    const offset = range.start + cluster * this.#clusterSize;
    const inDisk = target.subarray(0, Math.min(target.length, this.size - offset));
    if (!run) await this.#backup.reader.read(inDisk, offset);
    else if (run.compression === 'none') await run.source.read(inDisk, run.offset);
    else await this.#expand(target, cluster, { range, run });
    for (let at = 0; at < target.length; at += this.#clusterSize)
      this.#check(cluster + at / this.#clusterSize, target.subarray(at, at + this.#clusterSize), range);
  }

  async #expand(target: Uint8Array, cluster: number, { range, run }: { readonly range: Range; readonly run: StoredRun }): Promise<void> {
    const { source, offset, compression, storedLength } = run;
    if (compression === 'none') return;
    const stored = new Uint8Array(Math.min(storedLength, range.view.storedLength(cluster) || storedLength));
    await source.read(stored, offset);
    this.#codec ??= createClusterCodec();
    try {
      this.#codec.decompress(compression, stored, target);
    } catch (error) {
      throw this.#damage(cluster, range, error);
    }
  }

  #check(cluster: number, bytes: Uint8Array, range: Range): void {
    const digests = this.#digests;
    digests.fill(0, 0, DIGEST_BYTES);
    range.view.copyDigest(cluster, digests, 0);
    this.#blake3.hashInto(bytes, digests, DIGEST_BYTES);
    if (digests.compare(digests, DIGEST_BYTES, 2 * DIGEST_BYTES, 0, DIGEST_BYTES) !== 0) throw this.#damage(cluster, range);
  }

  #damage(cluster: number, { view, start }: Range, cause?: unknown): ChainkeepError {
    const { chain, sidecar } = this.#backup;
    const backupId = (chain[(view.deciders[cluster] ?? 0) - 1] ?? sidecar).backup_id;
    const offset = start + cluster * this.#clusterSize;
    return new ChainkeepError('DIGEST_MISMATCH', `backup ${backupId} is damaged at guest offset ${offset}`, {
      advice: 'verify names everything that is damaged; use an earlier or later point, or a copy',
      context: { backup_id: backupId, guest_offset: offset },
      cause,
    });
  }

  #range(index: number): Promise<Range | undefined> {
    return keepRecent(this.#ranges, KEPT_RANGES, index, async () => {
      const view = await this.#backup.view.range(index);
      if (!view) return undefined;
      const plan = await PlannedRange.plan(this.#backup.reader, this.#clusterSize, index);
      return { view, plan, start: index * RANGE_CLUSTERS * this.#clusterSize };
    });
  }

  #indexOf(offset: number): number {
    return Math.floor(offset / (RANGE_CLUSTERS * this.#clusterSize));
  }

  async close(): Promise<void> {
    this.#clusters.clear();
    this.#ranges.clear();
    this.#codec?.close();
    this.#codec = undefined;
  }
}
