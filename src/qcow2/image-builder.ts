// Builds the tables of an image while its clusters are being appended, and finishes it with the head.
// It never sees the data: who appends a cluster tells it where. Entries come in guest order; tables leave when they are full.

import { type Blake3, hex, type RunningDigest } from '../plumbing/blake3.ts';
import type { ByteSink } from '../plumbing/byte-sink.ts';
import { assert } from '../plumbing/errors.ts';
import { encodeHeader, type HeaderFields } from './header.ts';
import type { ImageLayout } from './image-layout.ts';
import { writeCompressedEntry, writeStandardEntry, writeZeroEntry } from './l2-entry.ts';
import { RefcountBuilder } from './refcount-builder.ts';
import { structureDigest } from './structure-digest.ts';

export interface BuilderOptions {
  readonly layout: ImageLayout;
  readonly sink: ByteSink;
  readonly blake3: Blake3;
  readonly compression: 'none' | 'zlib' | 'zstd';
  readonly backing?: HeaderFields['backing'];
  readonly extensions?: HeaderFields['extensions'];
}

export interface BuiltImage {
  readonly size: number;
  /** Hash over head, L2 tables and refcount blocks; see structure-digest.ts. Hex. */
  readonly structure: string;
}

// Full tables are gathered to runs of this size before they are written.
const FLUSH_BYTES = 1 << 20;

const COPIED_HIGH = 0x80000000; // bit 63 of an L1 entry: the table has refcount 1

export class ImageBuilder {
  readonly #options: BuilderOptions;
  readonly #refcounts: RefcountBuilder;
  readonly #l1: DataView;
  readonly #l2Digest: RunningDigest;
  #table: Buffer;
  #view: DataView;
  #tableIndex = -1;
  #ready: { readonly index: number; readonly bytes: Buffer }[] = [];
  /** Tables that are written, to be used again. */
  readonly #spare: Buffer[] = [];

  constructor(options: BuilderOptions) {
    const { layout, sink, blake3 } = options;
    this.#options = options;
    this.#refcounts = new RefcountBuilder(layout, sink, blake3.create());
    this.#l1 = new DataView(new ArrayBuffer(layout.refcountTableOffset - layout.l1Offset));
    this.#l2Digest = blake3.create();
    this.#table = Buffer.alloc(layout.clusterSize);
    this.#view = viewOf(this.#table);
    this.#refcounts.count(0, layout.headLength);
  }

  /** `cluster` is stored as it is at `hostOffset`. */
  addPlain(cluster: number, hostOffset: number): void {
    const slot = this.#slot(cluster);
    writeStandardEntry(this.#view, slot, hostOffset);
    this.#refcounts.count(hostOffset, this.#options.layout.clusterSize);
  }

  /** `cluster` is stored as a compressed stream of `storedLength` bytes at `hostOffset`. */
  addCompressed(cluster: number, hostOffset: number, storedLength: number): void {
    const { clusterBits } = this.#options.layout;
    const slot = this.#slot(cluster);
    writeCompressedEntry(this.#view, slot, clusterBits, hostOffset, storedLength);
    // The descriptor counts whole sectors, and so does qemu when it counts references.
    const end = Math.ceil((hostOffset + storedLength) / 512) * 512;
    this.#refcounts.count(hostOffset, end - hostOffset);
  }

  /** `cluster` reads as zeros, whatever a parent has. */
  addZero(cluster: number): void {
    const slot = this.#slot(cluster);
    writeZeroEntry(this.#view, slot);
  }

  /**
   * Writes the tables that are full, once they are worth a write. `settledBelow`: every cluster in front of this host offset has been added already,
   * so refcount blocks up to there are final and leave too.
   */
  async flush(settledBelow: number): Promise<void> {
    if (this.#ready.length * this.#options.layout.clusterSize >= FLUSH_BYTES) await this.#writeTables();
    await this.#refcounts.flush(settledBelow);
  }

  /** Writes what is left and the head; the image exists when it returns. */
  async finish(): Promise<BuiltImage> {
    this.#closeTable();
    await this.#writeTables();
    const { layout, sink, blake3 } = this.#options;
    const { table, digest } = await this.#refcounts.finish();
    const head = Buffer.alloc(layout.headLength);
    head.set(encodeHeader(headerFields(this.#options)));
    head.set(new Uint8Array(this.#l1.buffer), layout.l1Offset);
    head.set(table, layout.refcountTableOffset);
    const structure = hex(structureDigest(blake3, { head, l2: this.#l2Digest.digest(), refcounts: digest }));
    const { size } = await sink.finish(head);
    return { size, structure };
  }

  /** Index in the table of `cluster`; makes that table the open one, so it must be asked before `#view` is used. */
  #slot(cluster: number): number {
    const { l2Entries } = this.#options.layout;
    const index = Math.floor(cluster / l2Entries);
    if (index !== this.#tableIndex) {
      assert(index > this.#tableIndex, `L2 entries come in guest order (table ${index} after ${this.#tableIndex})`);
      this.#closeTable();
      this.#tableIndex = index;
    }
    return cluster % l2Entries;
  }

  #closeTable(): void {
    if (this.#tableIndex < 0) return;
    this.#ready.push({ index: this.#tableIndex, bytes: this.#table });
    this.#tableIndex = -1;
    this.#table = this.#emptyTable();
    this.#view = viewOf(this.#table);
  }

  /** All full tables as one run: a sparse disk has many tables and little between them. */
  async #writeTables(): Promise<void> {
    const ready = this.#ready;
    this.#ready = [];
    if (ready.length === 0) return;
    const first = await this.#options.sink.append(ready.map(({ bytes }) => bytes));
    for (const [position, { index, bytes }] of ready.entries()) {
      const offset = first + position * bytes.length;
      this.#l2Digest.update(bytes);
      this.#refcounts.count(offset, bytes.length);
      this.#l1.setUint32(index * 8, (COPIED_HIGH | Math.floor(offset / 2 ** 32)) >>> 0);
      this.#l1.setUint32(index * 8 + 4, offset % 2 ** 32);
      this.#spare.push(bytes.fill(0));
    }
  }

  #emptyTable(): Buffer {
    return this.#spare.pop() ?? Buffer.alloc(this.#options.layout.clusterSize);
  }
}

function headerFields({ layout, compression, backing, extensions }: BuilderOptions): HeaderFields {
  return {
    clusterBits: layout.clusterBits,
    size: layout.virtualSize,
    l1Size: layout.l1Size,
    l1Offset: layout.l1Offset,
    refcountTableOffset: layout.refcountTableOffset,
    refcountTableClusters: layout.refcountTableClusters,
    refcountOrder: 4,
    compressionType: compression === 'zstd' ? 'zstd' : 'zlib',
    ...(backing ? { backing } : {}),
    ...(extensions ? { extensions } : {}),
  };
}

function viewOf(buffer: Buffer): DataView {
  return new DataView(buffer.buffer, buffer.byteOffset, buffer.length);
}
