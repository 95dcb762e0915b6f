// Writes a digests file forward once, in guest order; memory holds one section and the hashes of the ranges.

import { type Blake3, DIGEST_BYTES, hex } from '../plumbing/blake3.ts';
import type { ByteSink } from '../plumbing/byte-sink.ts';
import { assert } from '../plumbing/errors.ts';
import {
  contentRoot,
  countRanges,
  DIRECTORY_BYTES,
  type DigestsHeader,
  digestsRoot,
  encodeDigestsHeader,
  encodeTrailer,
  HEADER_BYTES,
  INDEX,
  INDEX_BYTES,
  PAGE_ENTRIES,
  RECORD,
  RECORD_BYTES,
} from './digests-format.ts';

// Sections are gathered to blobs of this size before they go to the store.
const BUFFER_BYTES = 1 << 20;

export interface WrittenDigests {
  /** Hex, for the sidecar. */
  readonly root: string;
  readonly contentRoot: string;
  readonly size: number;
  /** Clusters the image decides. */
  readonly records: number;
}

export interface ClusterRecord {
  readonly kind: number;
  readonly digest?: Uint8Array;
  /** Only of a compressed cluster. */
  readonly storedLength?: number;
  readonly crc?: number;
}

export class DigestsWriter {
  readonly #sink: ByteSink;
  readonly #blake3: Blake3;
  readonly #header: DigestsHeader;
  readonly #ranges: Buffer;
  readonly #index: Buffer[] = [];
  #section: Buffer[] = [];
  #sectionRange = -1;
  #buffered: Buffer[] = [];
  #bufferedBytes = 0;
  #offset: number;
  #records = 0;

  /** `parentRanges`: the hashes of the parent's ranges, which stay where a range is not touched. */
  constructor(sink: ByteSink, blake3: Blake3, header: DigestsHeader, parentRanges: Uint8Array) {
    this.#sink = sink;
    this.#blake3 = blake3;
    this.#header = header;
    this.#ranges = Buffer.alloc(countRanges(header.totalBytes, header.clusterSize) * DIGEST_BYTES);
    this.#ranges.set(parentRanges);
    this.#offset = 0;
    this.#push(encodeDigestsHeader(header));
  }

  /** A decided cluster; clusters come in guest order. */
  add(range: number, cluster: number, record: ClusterRecord): void {
    if (range !== this.#sectionRange) {
      assert(this.#section.length === 0, `range ${this.#sectionRange} was not closed`);
      this.#sectionRange = range;
    }
    const bytes = Buffer.alloc(RECORD_BYTES);
    bytes.writeUInt16BE(cluster, RECORD.CLUSTER);
    bytes.writeUInt8(record.kind, RECORD.KIND);
    bytes.writeUInt8(record.storedLength ? 1 : 0, RECORD.COMPRESSED);
    bytes.writeUInt32BE(record.storedLength ?? 0, RECORD.STORED_LENGTH);
    bytes.writeUInt32BE(record.crc ?? 0, RECORD.CRC);
    if (record.digest) bytes.set(record.digest, RECORD.DIGEST);
    this.#section.push(bytes);
  }

  /** Ends the section of a range that has records; `hash` is what the range now reads as. */
  async closeRange(range: number, hash: Uint8Array): Promise<void> {
    assert(range === this.#sectionRange && this.#section.length > 0, `range ${range} has no records`);
    const section = Buffer.concat(this.#section);
    const entry = Buffer.alloc(INDEX_BYTES);
    entry.writeUInt32BE(range, INDEX.RANGE);
    entry.writeUInt32BE(this.#section.length, INDEX.RECORDS);
    entry.writeBigUInt64BE(BigInt(this.#offset), INDEX.OFFSET);
    entry.set(this.#blake3.hash(section), INDEX.HASH);
    this.#index.push(entry);
    this.#records += this.#section.length;
    this.#ranges.set(hash, range * DIGEST_BYTES);
    this.#section = [];
    this.#push(section);
    if (this.#bufferedBytes >= BUFFER_BYTES) await this.#flush();
  }

  async finish(): Promise<WrittenDigests> {
    const root = contentRoot(this.#blake3, this.#header, this.#ranges);
    const rangesOffset = this.#offset;
    this.#push(this.#ranges);
    const pagesOffset = this.#offset;
    const directory: Buffer[] = [];
    for (let first = 0; first < this.#index.length; first += PAGE_ENTRIES) {
      const page = Buffer.concat(this.#index.slice(first, first + PAGE_ENTRIES));
      const entry = Buffer.alloc(DIRECTORY_BYTES);
      entry.writeUInt32BE(page.readUInt32BE(INDEX.RANGE), 0);
      entry.set(this.#blake3.hash(page), 4);
      directory.push(entry);
      this.#push(page);
    }
    const directoryBytes = Buffer.concat(directory);
    const sections = this.#index.length;
    const trailer = encodeTrailer({
      sections,
      records: this.#records,
      rangesOffset,
      pagesOffset,
      directoryOffset: this.#offset,
      contentRoot: root,
    });
    this.#push(directoryBytes);
    this.#push(trailer);
    await this.#flush();
    const { size } = await this.#sink.finish(new Uint8Array(0));
    assert(size === this.#offset && size >= HEADER_BYTES, `the digests file has ${size} bytes, ${this.#offset} were written`);
    const fileRoot = digestsRoot(this.#blake3, encodeDigestsHeader(this.#header), directoryBytes, trailer);
    return { root: hex(fileRoot), contentRoot: hex(root), size, records: this.#records };
  }

  #push(bytes: Buffer): void {
    this.#buffered.push(bytes);
    this.#bufferedBytes += bytes.length;
    this.#offset += bytes.length;
  }

  async #flush(): Promise<void> {
    const buffers = this.#buffered;
    this.#buffered = [];
    this.#bufferedBytes = 0;
    await this.#sink.append(buffers);
  }
}
