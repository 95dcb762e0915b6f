// Counts references to host clusters while an image is being written, and writes refcount blocks as soon as they are final.
// 16 bit wide (refcount_order 4); blocks leave in ascending order, so memory holds only what may still change.

import type { RunningDigest } from '../plumbing/blake3.ts';
import type { ByteSink } from '../plumbing/byte-sink.ts';
import { assert } from '../plumbing/errors.ts';
import type { ImageLayout } from './image-layout.ts';

const MOST_REFERENCES = 0xffff;

export class RefcountBuilder {
  readonly #layout: ImageLayout;
  readonly #sink: ByteSink;
  readonly #digest: RunningDigest;
  readonly #table: DataView;
  readonly #blocks = new Map<number, Buffer>();
  /** Blocks below this index are written. */
  #written = 0;
  /** One past the last cluster that was counted. */
  #end = 0;

  constructor(layout: ImageLayout, sink: ByteSink, digest: RunningDigest) {
    this.#layout = layout;
    this.#sink = sink;
    this.#digest = digest;
    this.#table = new DataView(new ArrayBuffer(layout.refcountTableClusters * layout.clusterSize));
  }

  /** One reference more to every cluster that `length` bytes at `offset` touch. */
  count(offset: number, length: number): void {
    const { clusterSize, blockEntries } = this.#layout;
    const first = Math.floor(offset / clusterSize);
    const last = Math.floor((offset + length - 1) / clusterSize);
    for (let cluster = first; cluster <= last; cluster++) {
      const block = this.#block(Math.floor(cluster / blockEntries));
      const at = (cluster % blockEntries) * 2;
      const references = block.readUInt16BE(at) + 1;
      assert(references <= MOST_REFERENCES, `host cluster ${cluster} has more than ${MOST_REFERENCES} references`);
      block.writeUInt16BE(references, at);
    }
    this.#end = Math.max(this.#end, last + 1);
  }

  /** Writes the blocks that count only clusters in front of host offset `settledBelow`. */
  async flush(settledBelow: number): Promise<void> {
    const final = Math.floor(settledBelow / (this.#layout.blockEntries * this.#layout.clusterSize));
    while (this.#written < final) await this.#write(this.#written);
  }

  /** Writes the rest, themselves counted, and answers the refcount table and the digest over all blocks. */
  async finish(): Promise<{ table: Uint8Array; digest: Uint8Array }> {
    const { clusterSize, blockEntries } = this.#layout;
    // Each block takes a cluster, which may need one more block to count it.
    let blocks = Math.ceil(this.#end / blockEntries);
    while (Math.ceil((this.#end + blocks - this.#written) / blockEntries) > blocks) blocks++;
    const count = blocks - this.#written;
    this.count(this.#end * clusterSize, count * clusterSize);
    const buffers = Array.from({ length: count }, (_, index) => this.#block(this.#written + index));
    const offset = await this.#sink.append(buffers);
    assert(offset === (this.#end - count) * clusterSize, `refcount blocks landed at ${offset}: something was appended and not counted`);
    buffers.forEach((buffer, index) => this.#enter(this.#written + index, offset + index * clusterSize, buffer));
    return { table: new Uint8Array(this.#table.buffer), digest: this.#digest.digest() };
  }

  async #write(index: number): Promise<void> {
    const block = this.#block(index);
    const offset = await this.#sink.append([block]);
    this.count(offset, block.length);
    this.#enter(index, offset, block);
    this.#blocks.delete(index);
    this.#written = index + 1;
  }

  #enter(index: number, offset: number, block: Buffer): void {
    assert(index * 8 < this.#table.byteLength, `the refcount table has no entry ${index}`);
    this.#digest.update(block);
    this.#table.setUint32(index * 8, Math.floor(offset / 2 ** 32));
    this.#table.setUint32(index * 8 + 4, offset % 2 ** 32);
  }

  #block(index: number): Buffer {
    assert(index >= this.#written, `refcount block ${index} was written already`);
    let block = this.#blocks.get(index);
    if (!block) {
      block = Buffer.alloc(this.#layout.clusterSize);
      this.#blocks.set(index, block);
    }
    return block;
  }
}
