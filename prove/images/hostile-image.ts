// A working copy of a base image that is changed in place and put back: copying whole images would cost more than attacking them.
// It must remember what was touched: the judge relies on it for what it need not decode again.

import type { BaseImage } from './base-images.ts';
import { type JudgedFile, judgeStream, type Said, type Verdict } from './judge.ts';
import { findStructures, type Place, type Structures } from './structures.ts';

/** Bytes behind the end that a mutation may add to the file. */
const ROOM = 131_072;

export class HostileImage implements JudgedFile {
  readonly base: BaseImage;
  readonly structures: Structures;
  readonly bytes: Buffer;
  length: number;
  readonly #undo: { readonly at: number; readonly bytes: Buffer }[] = [];
  readonly #streams = new Map<string, Verdict>();
  #touched: Place[] = [];

  constructor(base: BaseImage) {
    this.base = base;
    this.structures = findStructures(base);
    this.bytes = Buffer.alloc(base.bytes.length + ROOM);
    base.bytes.copy(this.bytes);
    this.length = base.bytes.length;
  }

  /** Bytes that do not lie inside the file are left out. */
  write(at: number, data: Uint8Array): void {
    const length = Math.min(data.length, this.length - at);
    if (at < 0 || length <= 0) return;
    this.#undo.push({ at, bytes: Buffer.from(this.bytes.subarray(at, at + length)) });
    this.#touched.push({ at, length });
    this.bytes.set(data.subarray(0, length), at);
  }

  writeU64(at: number, value: bigint): void {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(BigInt.asUintN(64, value));
    this.write(at, bytes);
  }

  readU64(at: number): bigint {
    return this.bytes.readBigUInt64BE(at);
  }

  flip(at: number, mask: number): void {
    this.write(at, Uint8Array.of((this.bytes[at] ?? 0) ^ mask));
  }

  /** The file ends at `length`; what it gains are `filler`s. */
  resize(length: number, filler: number): void {
    const wanted = Math.max(0, Math.min(length, this.bytes.length));
    const before = this.length;
    this.length = wanted;
    if (wanted > before) this.write(before, Buffer.alloc(wanted - before, filler));
  }

  isUntouched({ at, length }: Place): boolean {
    return this.#touched.every((touched) => touched.at + touched.length <= at || at + length <= touched.at);
  }

  /** A stream of the healthy image is decoded once. */
  known(at: number, length: number, { clusterSize, zstd }: Said): Verdict | undefined {
    if (clusterSize !== this.structures.said.clusterSize || zstd !== this.structures.said.zstd) return undefined;
    if (at + length > this.base.bytes.length || !this.isUntouched({ at, length })) return undefined;
    const key = `${at}:${length}`;
    let verdict = this.#streams.get(key);
    if (!verdict) {
      verdict = judgeStream(this.bytes.subarray(at, at + length), this.structures.said);
      if (this.#streams.size < 200) this.#streams.set(key, verdict);
    }
    return verdict;
  }

  reset(): void {
    for (const { at, bytes } of this.#undo.splice(0).reverse()) bytes.copy(this.bytes, at);
    this.length = this.base.bytes.length;
    this.#touched = [];
  }
}
