// A restore point as a disk each of whose bytes was compared with its digest before anybody gets it: for those who read it piece by piece.
// What reads as zeros is what the record says does: a damaged table cannot make zeros out of data.

import type { DiskReader } from '../disk/disk-reader.ts';
import type { ByteRange, Extent } from '../disk/extent.ts';
import { type Blake3, DIGEST_BYTES } from '../plumbing/blake3.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import { RANGE_CLUSTERS } from '../transfer/expected-view.ts';
import { CLUSTER } from '../transfer/unit.ts';
import type { OpenedBackup } from './open-backup.ts';

/** Clusters that were read for a part of them: whoever reads a disk in small steps comes again for the rest. */
const KEPT_CLUSTERS = 64;

/** Its `read` throws DIGEST_MISMATCH with backup and guest offset. Closing is left to who opened the backup. */
export function checkedReader(backup: OpenedBackup, blake3: Blake3): DiskReader {
  return new CheckedReader(backup, blake3);
}

class CheckedReader implements DiskReader {
  readonly size: number;
  readonly name: string;
  readonly #backup: OpenedBackup;
  readonly #blake3: Blake3;
  readonly #clusterSize: number;
  readonly #kept = new Map<number, Promise<Buffer>>();

  constructor(backup: OpenedBackup, blake3: Blake3) {
    this.#backup = backup;
    this.#blake3 = blake3;
    this.#clusterSize = backup.sidecar.qcow2.cluster_size;
    this.size = backup.reader.size;
    this.name = backup.reader.name;
  }

  async *extents({ offset, length }: ByteRange): AsyncGenerator<Extent> {
    const size = this.#clusterSize;
    const end = offset + length;
    let run: Pick<Extent, 'offset' | 'kind'> | undefined;
    for (let at = offset; at < end; ) {
      const range = await this.#rangeOf(this.#clusterOf(at));
      const border = Math.min(end, (Math.floor(at / (RANGE_CLUSTERS * size)) + 1) * RANGE_CLUSTERS * size);
      for (; at < border; at = Math.min(border, (this.#clusterOf(at) + 1) * size)) {
        const kind = range?.kinds[this.#clusterOf(at) % RANGE_CLUSTERS] === CLUSTER.DATA ? 'data' : 'zero';
        if (kind === run?.kind) continue;
        if (run) yield { ...run, length: at - run.offset };
        run = { offset: at, kind };
      }
    }
    if (run) yield { ...run, length: end - run.offset };
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    for await (const extent of this.extents({ offset, length: buffer.length })) {
      const part = buffer.subarray(extent.offset - offset, extent.offset - offset + extent.length);
      if (extent.kind === 'zero') part.fill(0);
      else await this.#readData(part, extent.offset);
    }
  }

  /** Whole clusters into their place, the first and the last one by way of what is kept. */
  async #readData(part: Uint8Array, offset: number): Promise<void> {
    const size = this.#clusterSize;
    const end = offset + part.length;
    const [from, to] = [Math.ceil(offset / size) * size, Math.floor(end / size) * size];
    if (from >= to) {
      for (let at = offset; at < end; at = (this.#clusterOf(at) + 1) * size) await this.#copyKept(part, offset, at, end);
      return;
    }
    if (offset < from) await this.#copyKept(part, offset, offset, from);
    const whole = part.subarray(from - offset, to - offset);
    await this.#backup.reader.read(whole, from);
    for (let at = from; at < to; at += size) await this.#check(this.#clusterOf(at), whole.subarray(at - from, at - from + size));
    if (to < end) await this.#copyKept(part, offset, to, end);
  }

  async #copyKept(part: Uint8Array, offset: number, at: number, end: number): Promise<void> {
    const cluster = this.#clusterOf(at);
    const start = cluster * this.#clusterSize;
    const bytes = await this.#keep(cluster);
    part.set(bytes.subarray(at - start, Math.min(end - start, this.#clusterSize)), at - offset);
  }

  #keep(cluster: number): Promise<Buffer> {
    const kept = this.#kept.get(cluster);
    if (kept) return kept;
    const reading = this.#readCluster(cluster);
    // A failure is no answer for the next one who asks.
    reading.catch(() => this.#kept.delete(cluster));
    this.#kept.set(cluster, reading);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > KEPT_CLUSTERS && oldest !== undefined) this.#kept.delete(oldest);
    return reading;
  }

  /** The last one of a disk is filled up with zeros, as its digest was. */
  async #readCluster(cluster: number): Promise<Buffer> {
    const start = cluster * this.#clusterSize;
    const bytes = Buffer.alloc(this.#clusterSize);
    await this.#backup.reader.read(bytes.subarray(0, this.size - start), start);
    await this.#check(cluster, bytes);
    return bytes;
  }

  async #check(cluster: number, bytes: Uint8Array): Promise<void> {
    const range = await this.#rangeOf(cluster);
    const at = cluster % RANGE_CLUSTERS;
    const digests = Buffer.alloc(2 * DIGEST_BYTES);
    range?.copyDigest(at, digests, 0);
    this.#blake3.hashInto(bytes, digests, DIGEST_BYTES);
    if (digests.subarray(0, DIGEST_BYTES).equals(digests.subarray(DIGEST_BYTES))) return;
    const { chain, sidecar } = this.#backup;
    const backupId = (chain[(range?.deciders[at] ?? 0) - 1] ?? sidecar).backup_id;
    const offset = cluster * this.#clusterSize;
    throw new ChainkeepError('DIGEST_MISMATCH', `backup ${backupId} is damaged at guest offset ${offset}`, {
      advice: 'verify names everything that is damaged; use an earlier or later point, or a copy',
      context: { backup_id: backupId, guest_offset: offset },
    });
  }

  #rangeOf(cluster: number): ReturnType<OpenedBackup['view']['range']> {
    return this.#backup.view.range(Math.floor(cluster / RANGE_CLUSTERS));
  }

  #clusterOf(offset: number): number {
    return Math.floor(offset / this.#clusterSize);
  }

  async close(): Promise<void> {
    this.#kept.clear();
  }
}
