// Which bytes of an image file are accounted for, cluster by cluster, so that the rest can be checked to be zero.
// In our images the used bytes of a cluster are always its beginning: compressed streams are packed from the start of a run.

import type { ByteSource } from '../plumbing/byte-source.ts';

export interface Stray {
  /** First byte that is used by nothing and is not zero. */
  readonly offset: number;
}

const READ_BYTES = 1 << 20;

export class UsedBytes {
  readonly #clusterSize: number;
  readonly #used: Uint32Array;

  constructor(fileSize: number, clusterSize: number) {
    this.#clusterSize = clusterSize;
    this.#used = new Uint32Array(Math.ceil(fileSize / clusterSize));
  }

  /** `length` bytes at `offset` are used. What lies outside of the file is not counted. */
  add(offset: number, length: number): void {
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const cluster = Math.floor(at / this.#clusterSize);
      if (cluster >= this.#used.length) return;
      const stop = Math.min(end, (cluster + 1) * this.#clusterSize);
      this.#used[cluster] = (this.#used[cluster] ?? 0) + stop - at;
      at = stop;
    }
  }

  /** A cluster of the file whose bytes are used more than once, or undefined. */
  findOverlap(): number | undefined {
    const cluster = this.#used.findIndex((bytes) => bytes > this.#clusterSize);
    return cluster < 0 ? undefined : cluster * this.#clusterSize;
  }

  /** Reads what is not used; answers the first byte there that is not zero. */
  async findStray(source: ByteSource): Promise<Stray | undefined> {
    const buffer = Buffer.alloc(Math.min(READ_BYTES, this.#clusterSize));
    const zeros = Buffer.alloc(buffer.length);
    for (let cluster = 0; cluster < this.#used.length; cluster++) {
      const start = cluster * this.#clusterSize + (this.#used[cluster] ?? 0);
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
