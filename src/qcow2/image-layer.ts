// The data of one image: extents and reads, cluster by cluster, without any layer below.
// A range the image does not decide is `absent`, never `zero`; the caller knows what lies below.

import type { DiskReader } from '../disk/disk-reader.ts';
import type { ByteRange, Extent } from '../disk/extent.ts';
import type { ByteSource } from '../plumbing/byte-source.ts';
import { isChainkeepError } from '../plumbing/errors.ts';
import { settle } from '../plumbing/settle.ts';
import { type ClusterCodec, createClusterCodec } from './cluster-codec.ts';
import type { Qcow2Header } from './header.ts';
import { invalidImage, withImageName } from './invalid-image.ts';
import { L1_ENTRY_LENGTH } from './l1-entry.ts';
import { L1_PAGE_BYTES, type MappedImage, type Mapping, readMappings } from './mapping.ts';
import { type TableCache, TableReader } from './table-cache.ts';

/** Reads of one `read` call that wait for the source at the same time. */
const READS_AT_ONCE = 32;

export interface LayerOptions {
  readonly source: ByteSource;
  readonly header: Qcow2Header;
  /** The first bytes of the file; where they hold the beginning of the L1 table it is not read again. */
  readonly firstBytes: Uint8Array;
  readonly strict: boolean;
  readonly cache: TableCache;
}

export class ImageLayer implements DiskReader {
  readonly name: string;
  readonly size: number;
  readonly header: Qcow2Header;
  readonly source: ByteSource;
  readonly #image: MappedImage;
  #codec: ClusterCodec | undefined;
  /** The cluster that was expanded last: small reads in a row come from the same one. */
  #expanded: { readonly hostOffset: number; readonly storedLength: number; readonly bytes: Uint8Array } | undefined;

  constructor({ source, header, firstBytes, strict, cache }: LayerOptions) {
    this.name = source.name;
    this.size = header.size;
    this.header = header;
    this.source = source;
    const tables = new TableReader(source, cache);
    keepFirstL1Page(tables, header, firstBytes);
    this.#image = { header, fileSize: source.size, tables, strict, tablesPerPage: new Map() };
  }

  async *mapping(range: ByteRange): AsyncGenerator<Mapping> {
    try {
      yield* readMappings(this.#image, range);
    } catch (error) {
      throw withImageName(this.name, error);
    }
  }

  async *extents(range: ByteRange): AsyncGenerator<Extent> {
    for await (const mapping of this.mapping(range)) yield this.#toExtent(mapping);
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    const reads: Promise<void>[] = [];
    try {
      for await (const mapping of this.mapping({ offset, length: buffer.length })) {
        const part = buffer.subarray(mapping.offset - offset, mapping.offset - offset + mapping.length);
        if (mapping.kind === 'standard') reads.push(this.source.read(part, mapping.hostOffset));
        else if (mapping.kind === 'compressed') reads.push(this.#readCompressed(part, mapping));
        else part.fill(0);
        if (reads.length >= READS_AT_ONCE) await settle(reads.splice(0));
      }
    } finally {
      await settle(reads);
    }
  }

  async close(): Promise<void> {
    this.#codec?.close();
    this.#codec = undefined;
    this.#expanded = undefined;
    await this.source.close();
  }

  #toExtent(mapping: Mapping): Extent {
    const { offset, length, hostOffset } = mapping;
    if (mapping.kind === 'unallocated') return { offset, length, kind: 'absent' };
    if (mapping.kind === 'zero') return { offset, length, kind: 'zero' };
    if (mapping.kind === 'standard') {
      return { offset, length, kind: 'data', stored: { source: this.source, offset: hostOffset, length, compression: 'none' } };
    }
    const { clusterSize, compressionType } = this.header;
    // A piece from inside a compressed cluster cannot be read by itself: whoever wants it asks this reader. The beginning of one can: a disk
    // that does not end with a sector is shorter than its image, and its last cluster is cut there.
    if (mapping.skip !== 0) return { offset, length, kind: 'data' };
    const stored = { source: this.source, offset: hostOffset, length: mapping.storedLength };
    return { offset, length, kind: 'data', stored: { ...stored, compression: compressionType, expandedLength: clusterSize } };
  }

  async #readCompressed(part: Uint8Array, mapping: Mapping): Promise<void> {
    const cluster = await this.#expand(mapping, part);
    if (cluster !== part) part.set(cluster.subarray(mapping.skip, mapping.skip + part.length));
  }

  /** The whole cluster: in `target` where that is one, else in memory of its own. */
  async #expand(mapping: Mapping, target: Uint8Array): Promise<Uint8Array> {
    const { hostOffset, storedLength } = mapping;
    // Two entries may name one place with different lengths, and the shorter may cut the stream off.
    if (this.#expanded?.hostOffset === hostOffset && this.#expanded.storedLength === storedLength) return this.#expanded.bytes;
    const { clusterSize, compressionType } = this.header;
    const stored = new Uint8Array(storedLength);
    await this.source.read(stored, hostOffset);
    const whole = target.length === clusterSize;
    const bytes = whole ? target : new Uint8Array(clusterSize);
    this.#codec ??= createClusterCodec();
    try {
      this.#codec.decompress(compressionType, stored, bytes);
    } catch (error) {
      throw this.#unreadable(mapping, error);
    }
    if (!whole) this.#expanded = { hostOffset, storedLength, bytes };
    return bytes;
  }

  #unreadable(mapping: Mapping, error: unknown): unknown {
    if (!isChainkeepError(error, 'QCOW2_INVALID')) return error;
    const guestOffset = mapping.offset - mapping.skip;
    const context = {
      guest_offset: guestOffset,
      length: Math.min(this.header.clusterSize, this.size - guestOffset),
      host_offset: mapping.hostOffset,
    };
    return withImageName(
      this.name,
      invalidImage(`the cluster at ${guestOffset} of the disk cannot be read: ${error.message}`, context, error),
    );
  }
}

function keepFirstL1Page(tables: TableReader, { l1Offset, l1Size }: Qcow2Header, firstBytes: Uint8Array): void {
  const length = Math.min(l1Size * L1_ENTRY_LENGTH, L1_PAGE_BYTES);
  if (length > 0 && l1Offset + length <= firstBytes.length) tables.keep(firstBytes.subarray(l1Offset, l1Offset + length), l1Offset);
}
