// A disk that can be written and is thrown away: what is written lies in a scratch file, everything else is read from the disk below, or is zeros.
// Nothing ever reaches the disk below.

import { CLUSTER_STATE, ClusterStates } from './cluster-states.ts';
import type { DiskReader } from './disk-reader.ts';
import type { ByteRange, Extent } from './extent.ts';
import { RangeTurns } from './range-turns.ts';
import { openScratchFile, type ScratchFile, type ScratchRoom } from './scratch-file.ts';

/** Bytes; the smallest piece of which is known where it lies. */
export const SCRATCH_CLUSTER = 65_536;

const { UNTOUCHED, DATA, ZERO } = CLUSTER_STATE;

export interface ScratchDiskOptions {
  /** Bytes. */
  readonly size: number;
  /** Of any size; behind its end are zeros. It is not closed with the disk. Without it all is zeros. */
  readonly base?: DiskReader;
  readonly room: ScratchRoom;
}

/** Throws what `openScratchFile` throws. */
export async function openScratchDisk({ size, base, room }: ScratchDiskOptions): Promise<ScratchDisk> {
  return new ScratchDisk(await openScratchFile(size, room), base);
}

/**
 * Reads and changes may come from many sides at once: a change that overlaps with another one to the cluster waits for it, so that none is lost. A read
 * beside a change gets what was there before or after it.
 */
export class ScratchDisk implements DiskReader {
  readonly size: number;
  readonly name: string;
  readonly #file: ScratchFile;
  readonly #base: DiskReader | undefined;
  readonly #states: ClusterStates;
  readonly #turns = new RangeTurns();

  constructor(file: ScratchFile, base: DiskReader | undefined) {
    this.size = file.size;
    this.name = file.name;
    this.#file = file;
    this.#base = base;
    this.#states = new ClusterStates(Math.ceil(file.size / SCRATCH_CLUSTER));
  }

  /** Bytes of the scratch file that are in use. */
  get storedBytes(): number {
    return this.#file.kept;
  }

  async *extents({ offset, length }: ByteRange): AsyncGenerator<Extent> {
    for (const { from, to, state } of this.#runs(offset, offset + length)) {
      const run = { offset: from, length: to - from };
      if (state === DATA) yield { ...run, kind: 'data', stored: { source: this.#file, ...run, compression: 'none' } };
      else if (state === ZERO || !this.#base) yield { ...run, kind: 'zero' };
      else yield* baseExtents(this.#base, run);
    }
  }

  /** Whole clusters that were written, zeroed or trimmed, whatever they held before: ascending. */
  *touched(): Generator<ByteRange> {
    for (const { from, to, state } of this.#runs(0, this.size)) if (state !== UNTOUCHED) yield { offset: from, length: to - from };
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    for (const { from, to, state } of this.#runs(offset, offset + buffer.length)) {
      const part = buffer.subarray(from - offset, to - offset);
      if (state === DATA) await this.#file.read(part, from);
      else await this.#readBelow(part, from, state === ZERO);
    }
  }

  /** Throws INSUFFICIENT_STORAGE where the room that was given does not suffice, and what the disk below throws for a cluster of which a part is kept. */
  write(bytes: Uint8Array, offset: number): Promise<void> {
    return this.#turns.run(wholeClusters(offset, bytes.length), () => this.#write(bytes, offset));
  }

  /** Costs next to nothing for whole clusters, however many. */
  zero(offset: number, length: number): Promise<void> {
    const end = offset + length;
    const [from, to] = this.#clustersInside(offset, end);
    return this.#turns.run(wholeClusters(offset, length), async () => {
      if (from >= to) return this.#zeroPart(offset, end);
      await this.#zeroPart(offset, from * SCRATCH_CLUSTER);
      this.#zeroClusters(from, to);
      await this.#zeroPart(to * SCRATCH_CLUSTER, end);
    });
  }

  /** Whole clusters read as zeros afterwards, parts of others as before. */
  trim(offset: number, length: number): Promise<void> {
    const [from, to] = this.#clustersInside(offset, offset + length);
    return this.#turns.run(wholeClusters(offset, length), async () => this.#zeroClusters(from, to));
  }

  /** Does nothing: a disk that is gone with its process has nothing to make durable. */
  async flush(): Promise<void> {}

  /** What is in the file is what was written, and stays: to be called before something is made of it. Throws what the system could not write. */
  sync(): Promise<void> {
    return this.#file.sync();
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  async #write(bytes: Uint8Array, offset: number): Promise<void> {
    const end = offset + bytes.length;
    if (end === offset) return;
    const first = Math.floor(offset / SCRATCH_CLUSTER);
    const behind = Math.ceil(end / SCRATCH_CLUSTER);
    const growth = (behind - first - this.#states.countData(first, behind)) * SCRATCH_CLUSTER;
    this.#file.keep(growth);
    try {
      // The first and the last cluster are filled up with what lies below, unless they are in the file already or covered as a whole.
      const head = await this.#filledUp(first, bytes, offset);
      const tail = behind - first > 1 ? await this.#filledUp(behind - 1, bytes, offset) : undefined;
      const from = head ? Math.min(end, (first + 1) * SCRATCH_CLUSTER) : offset;
      const to = tail ? (behind - 1) * SCRATCH_CLUSTER : end;
      if (head) await this.#file.write(head, first * SCRATCH_CLUSTER);
      if (from < to) await this.#file.write(bytes.subarray(from - offset, to - offset), from);
      if (tail) await this.#file.write(tail, to);
    } catch (error) {
      this.#file.forget(growth);
      throw error;
    }
    // Only now: until all of a cluster is in the file, what lies below counts.
    this.#states.set(first, behind, DATA);
  }

  /** All of a cluster with the part of `bytes` that lies in it; undefined where only that part has to be written. */
  async #filledUp(cluster: number, bytes: Uint8Array, offset: number): Promise<Buffer | undefined> {
    const start = cluster * SCRATCH_CLUSTER;
    const stop = Math.min(this.size, start + SCRATCH_CLUSTER);
    const state = this.#states.at(cluster);
    if (state === DATA || (offset <= start && offset + bytes.length >= stop)) return undefined;
    const whole = Buffer.allocUnsafe(stop - start);
    await this.#readBelow(whole, start, state === ZERO);
    const from = Math.max(start, offset);
    whole.set(bytes.subarray(from - offset, Math.min(stop, offset + bytes.length) - offset), from - start);
    return whole;
  }

  async #readBelow(part: Uint8Array, offset: number, zero: boolean): Promise<void> {
    const base = zero ? undefined : this.#base;
    const known = base ? Math.max(0, Math.min(part.length, base.size - offset)) : 0;
    if (base && known > 0) await base.read(part.subarray(0, known), offset);
    part.fill(0, known);
  }

  /** Parts of clusters: less than two of them. */
  async #zeroPart(offset: number, end: number): Promise<void> {
    if (offset >= end) return;
    for (const { from, to, state } of this.#runs(offset, end)) if (state !== ZERO) await this.#write(Buffer.alloc(to - from), from);
  }

  /** Without a pause in between: no read finds a hole where the map says data. */
  #zeroClusters(from: number, to: number): void {
    for (let at = from; at < to; ) {
      const end = this.#states.runEnd(at, to);
      const state = this.#states.at(at);
      this.#states.set(at, end, ZERO);
      if (state === DATA) this.#file.drop(at * SCRATCH_CLUSTER, (end - at) * SCRATCH_CLUSTER);
      at = end;
    }
  }

  /** The clusters that lie wholly in the range; the last one of the disk may be shorter. */
  #clustersInside(offset: number, end: number): [from: number, to: number] {
    const to = end === this.size ? Math.ceil(end / SCRATCH_CLUSTER) : Math.floor(end / SCRATCH_CLUSTER);
    return [Math.ceil(offset / SCRATCH_CLUSTER), to];
  }

  /** Stretches of one state, in bytes, cut to the range. Each is looked up when it is asked for. */
  *#runs(offset: number, end: number): Generator<{ from: number; to: number; state: number }> {
    const behind = Math.ceil(end / SCRATCH_CLUSTER);
    for (let at = offset; at < end; ) {
      const cluster = Math.floor(at / SCRATCH_CLUSTER);
      const to = Math.min(end, this.#states.runEnd(cluster, behind) * SCRATCH_CLUSTER);
      yield { from: at, to, state: this.#states.at(cluster) };
      at = to;
    }
  }
}

function wholeClusters(offset: number, length: number): ByteRange {
  const start = Math.floor(offset / SCRATCH_CLUSTER) * SCRATCH_CLUSTER;
  return { offset: start, length: Math.ceil((offset + length) / SCRATCH_CLUSTER) * SCRATCH_CLUSTER - start };
}

async function* baseExtents(base: DiskReader, { offset, length }: ByteRange): AsyncGenerator<Extent> {
  const known = Math.max(0, Math.min(length, base.size - offset));
  if (known > 0) yield* base.extents({ offset, length: known });
  if (known < length) yield { offset: offset + known, length: length - known, kind: 'zero' };
}
