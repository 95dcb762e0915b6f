// Writes an image forward once, from a program's own data: clusters in ascending order, tables by themselves, the head last.
// One thread and bounded memory. The product's own copy engine uses the same builder with worker threads.

import { createFileWriter } from '../disk/file-writer.ts';
import { openWriterSink } from '../disk/writer-sink.ts';
import { loadBlake3 } from '../plumbing/blake3.ts';
import type { ByteSink } from '../plumbing/byte-sink.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import { type ClusterCodec, createClusterCodec } from './cluster-codec.ts';
import { ImageBuilder } from './image-builder.ts';
import { DEFAULT_CLUSTER_SIZE, type ImageLayout, planLayout } from './image-layout.ts';

export interface WriteOptions {
  /** Bytes of the virtual disk; the image has the next multiple of 512. */
  readonly size: number;
  /** Bytes, a power of two from 512 to 2 MiB; default 65536. */
  readonly clusterSize?: number;
  /** Default none. */
  readonly compression?: 'none' | 'zlib' | 'zstd';
  /** What the image stands on; what is not written reads from there. */
  readonly backing?: { readonly name: string; readonly format: 'qcow2' | 'raw' };
}

export interface Qcow2Writer {
  /**
   * The bytes of the disk from `offset`. Offsets ascend and are multiples of the cluster size; only the last buffer of a disk may end
   * inside a cluster. Without a backing file clusters of zeros are not stored; on top of one they are stored as zeros.
   */
  write(buffer: Uint8Array, offset: number): Promise<void>;
  /** The image exists, complete and durable, when this resolves. */
  finish(): Promise<{ readonly size: number }>;
  /** Gives back everything; nothing exists under the name. */
  abort(): Promise<void>;
}

/** A new image file. Throws TARGET_EXISTS at `finish` when the name is taken, unless `replace`; DISK_SIZE_INVALID for impossible sizes. */
export async function createQcow2File(path: string, options: WriteOptions & { readonly replace?: boolean }): Promise<Qcow2Writer> {
  const layout = layoutOf(options);
  const writer = await createFileWriter(path, { size: 0, replace: options.replace ?? false });
  return openWriter(openWriterSink(writer, layout.headLength), layout, options);
}

/** The same into any sink that was opened with `headLengthFor(options)` bytes left free at its start. */
export async function createQcow2(sink: ByteSink, options: WriteOptions): Promise<Qcow2Writer> {
  return openWriter(sink, layoutOf(options), options);
}

export function headLengthFor(options: WriteOptions): number {
  return layoutOf(options).headLength;
}

function layoutOf({ size, clusterSize = DEFAULT_CLUSTER_SIZE }: WriteOptions): ImageLayout {
  return planLayout(size, clusterSize);
}

async function openWriter(sink: ByteSink, layout: ImageLayout, options: WriteOptions): Promise<Qcow2Writer> {
  const { compression = 'none', backing } = options;
  const builder = new ImageBuilder({ layout, sink, blake3: await loadBlake3(), compression, ...(backing ? { backing } : {}) });
  return new ForwardWriter({ sink, layout, builder, size: options.size, compression, standsAlone: backing === undefined });
}

interface ForwardParts {
  readonly sink: ByteSink;
  readonly layout: ImageLayout;
  readonly builder: ImageBuilder;
  readonly size: number;
  readonly compression: 'none' | 'zlib' | 'zstd';
  readonly standsAlone: boolean;
}

// Compressed clusters are gathered to runs of this size.
const RUN_BYTES = 1 << 20;
const COMPRESSION_LEVEL = 1;

/** A compressed cluster that waits for its run to be written. */
interface Packed {
  readonly cluster: number;
  readonly start: number;
  readonly length: number;
}

class ForwardWriter implements Qcow2Writer {
  readonly #parts: ForwardParts;
  readonly #codec: ClusterCodec;
  readonly #zeros: Buffer;
  readonly #run: Buffer;
  #packed: Packed[] = [];
  #used = 0;
  /** The first cluster that may still be written. */
  #next = 0;

  constructor(parts: ForwardParts) {
    const { clusterSize } = parts.layout;
    this.#parts = parts;
    this.#codec = createClusterCodec();
    this.#zeros = Buffer.alloc(clusterSize);
    this.#run = Buffer.alloc(Math.max(RUN_BYTES, 2 * clusterSize));
  }

  async write(buffer: Uint8Array, offset: number): Promise<void> {
    const { clusterSize } = this.#parts.layout;
    this.#check(buffer, offset);
    for (let at = 0; at < buffer.length; at += clusterSize) {
      const part = buffer.subarray(at, at + clusterSize);
      const cluster = Buffer.alloc(clusterSize);
      cluster.set(part);
      await this.#writeCluster(cluster, (offset + at) / clusterSize);
    }
    this.#next = Math.ceil((offset + buffer.length) / clusterSize);
    await this.#parts.builder.flush(0);
  }

  async finish(): Promise<{ readonly size: number }> {
    await this.#flush();
    this.#codec.close();
    const { size } = await this.#parts.builder.finish();
    return { size };
  }

  async abort(): Promise<void> {
    this.#codec.close();
    await this.#parts.sink.abort();
  }

  async #writeCluster(bytes: Buffer, cluster: number): Promise<void> {
    const { builder, sink, standsAlone, compression } = this.#parts;
    if (bytes.equals(this.#zeros)) {
      if (standsAlone) return;
      await this.#flush();
      builder.addZero(cluster);
      return;
    }
    if (compression !== 'none' && (await this.#pack(bytes, cluster))) return;
    await this.#flush();
    builder.addPlain(cluster, await sink.append([bytes]));
  }

  async #pack(bytes: Buffer, cluster: number): Promise<boolean> {
    const { clusterSize } = this.#parts.layout;
    if (this.#run.length - this.#used < clusterSize) await this.#flush();
    const room = this.#run.subarray(this.#used, this.#used + clusterSize);
    const zlib = this.#parts.compression === 'zlib';
    const length = zlib
      ? this.#codec.compressZlib(bytes, room, COMPRESSION_LEVEL)
      : this.#codec.compressZstd(bytes, room, COMPRESSION_LEVEL);
    if (length === 0) return false;
    this.#packed.push({ cluster, start: this.#used, length });
    this.#used += length;
    return true;
  }

  /** Writes the run; its last cluster is filled up with zeros. */
  async #flush(): Promise<void> {
    if (this.#used === 0) return;
    const { clusterSize } = this.#parts.layout;
    const end = Math.ceil(this.#used / clusterSize) * clusterSize;
    this.#run.fill(0, this.#used, end);
    const base = await this.#parts.sink.append([this.#run.subarray(0, end)]);
    for (const { cluster, start, length } of this.#packed) this.#parts.builder.addCompressed(cluster, base + start, length);
    this.#packed = [];
    this.#used = 0;
  }

  #check(buffer: Uint8Array, offset: number): void {
    const { layout, size } = this.#parts;
    const { clusterSize } = layout;
    const end = offset + buffer.length;
    const fault =
      offset % clusterSize !== 0
        ? `is not a multiple of ${clusterSize}`
        : offset / clusterSize < this.#next
          ? 'lies in front of what was written'
          : end > layout.virtualSize || (end % clusterSize !== 0 && end < size)
            ? `and ${buffer.length} bytes do not end on a cluster or at the end of the disk`
            : undefined;
    if (fault === undefined) return;
    throw new ChainkeepError('CONFIG_INVALID', `offset ${offset} ${fault}`, {
      advice: 'write whole clusters in ascending order',
      context: { offset, length: buffer.length, cluster_size: clusterSize, size },
    });
  }
}
