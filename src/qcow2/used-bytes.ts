// Which bytes of an image file are accounted for, cluster by cluster, so that the rest can be checked to be zero.
// A file of any size is looked at through windows, so that memory does not grow with it.
// In our images the used bytes of a cluster are always its beginning: compressed streams are packed from the start of a run.

import type { ByteSource } from '../plumbing/byte-source.ts';

export interface Stray {
  /** First byte that is used by nothing and is not zero. */
  readonly offset: number;
}

const READ_BYTES = 1 << 20;

/** Clusters in a window: 64 MiB of counters. */
export const WINDOW_CLUSTERS = 1 << 24;

export class UsedBytes {
  readonly #clusterSize: number;
  /** First cluster of the window. */
  readonly #first: number;
  readonly #used: Uint32Array;

  /** Counts for the clusters from `first` on, at most `count` of them. */
  constructor(fileSize: number, clusterSize: number, first = 0, count = WINDOW_CLUSTERS) {
    this.#clusterSize = clusterSize;
    this.#first = first;
    this.#used = new Uint32Array(Math.min(count, Math.ceil(fileSize / clusterSize) - first));
  }

  /** `length` bytes at `offset` are used. What lies outside of the window or of the file is not counted. */
  add(offset: number, length: number): void {
    const end = offset + length;
    for (let at = Math.max(offset, this.#first * this.#clusterSize); at < end; ) {
      const cluster = Math.floor(at / this.#clusterSize);
      const index = cluster - this.#first;
      if (index >= this.#used.length) return;
      const stop = Math.min(end, (cluster + 1) * this.#clusterSize);
      this.#used[index] = (this.#used[index] ?? 0) + stop - at;
      at = stop;
    }
  }

  /** Offset in the file of a cluster of the window whose bytes are used more than once, or undefined. */
  findOverlap(): number | undefined {
    const index = this.#used.findIndex((bytes) => bytes > this.#clusterSize);
    return index < 0 ? undefined : (this.#first + index) * this.#clusterSize;
  }

  /** Reads what is not used in the window; answers the first byte there that is not zero. */
  async findStray(source: ByteSource): Promise<Stray | undefined> {
    const buffer = Buffer.alloc(Math.min(READ_BYTES, this.#clusterSize));
    const zeros = Buffer.alloc(buffer.length);
    for (let index = 0; index < this.#used.length; index++) {
      const cluster = this.#first + index;
      const start = cluster * this.#clusterSize + (this.#used[index] ?? 0);
      const end = Math.min((cluster + 1) * this.#clusterSize, source.size);
      for (let at = start; at < end; at += buffer.length) {
        const part = buffer.subarray(0, Math.min(buffer.length, end - at));
        await source.read(part, at);
        if (!part.equals(zeros.subarray(0, part.length))) return { offset: at + part.findIndex((byte) => byte !== 0) };
      }
    }
    return undefined;
  }
}
