// The images of a chain as one disk. The record of the digests says which of them decide a range: only those are opened, all at the same time.
// It must not decide what a cluster should read as: its bytes are as stored, and whoever uses them checks them against the record.

import type { DiskReader } from '../disk/disk-reader.ts';
import type { ByteRange, Extent } from '../disk/extent.ts';
import { overlay } from '../disk/overlay.ts';
import { gather } from '../plumbing/gather.ts';
import { RANGE_CLUSTERS } from '../transfer/expected-view.ts';
import type { ChainView } from './chain-view.ts';

export interface LazyLayer extends DiskReader {
  /** Opens the image unless it is open. */
  open(): Promise<DiskReader>;
}

/** An image that is opened when it is first needed; `size` is what it must turn out to have. A failure is no answer for the next attempt. */
export function lazyLayer(name: string, size: number, openImage: () => Promise<DiskReader>): LazyLayer {
  let opened: Promise<DiskReader> | undefined;
  const open = (): Promise<DiskReader> => {
    opened ??= openImage().catch((error: unknown) => {
      opened = undefined;
      throw error;
    });
    return opened;
  };
  return {
    size,
    name,
    open,
    async *extents(range) {
      yield* (await open()).extents(range);
    },
    read: async (buffer, offset) => (await open()).read(buffer, offset),
    close: async () => {
      const image = await opened?.catch(() => undefined); // whoever opened it has heard of the failure
      opened = undefined;
      await image?.close();
    },
  };
}

/** Tables of more images than this are not read ahead: they would drive each other out of the cache. */
const MOST_WARMED = 64;

export interface ChainOfLayers {
  readonly name: string;
  /** Exact bytes of the disk. */
  readonly size: number;
  readonly clusterSize: number;
  /** Newest first, as the view counts them. */
  readonly layers: readonly LazyLayer[];
  readonly view: ChainView;
}

/** Closing is left to who opened the layers and the view. */
export function chainReader({ name, size, clusterSize, layers, view }: ChainOfLayers): Omit<DiskReader, 'close'> {
  const rangeBytes = RANGE_CLUSTERS * clusterSize;
  // A shorter layer reads as zeros behind its end, whatever lies deeper: then all of them are needed to know.
  const sameSize = layers.every((layer) => layer.size === layers[0]?.size);
  const involved = async (range: ByteRange): Promise<readonly LazyLayer[]> => {
    if (!sameSize) return layers;
    const index = Math.floor(range.offset / rangeBytes);
    const first = Math.floor((range.offset - index * rangeBytes) / clusterSize);
    const last = Math.ceil((range.offset + range.length - index * rangeBytes) / clusterSize);
    const numbers = new Set((await view.range(index))?.deciders.subarray(first, last));
    const found = layers.filter((_, index) => numbers.has(index + 1));
    if (found.length > 1 && found.length <= MOST_WARMED) await gather(found, (layer) => warm(layer, range));
    return found;
  };
  return {
    size,
    name,
    async *extents(range) {
      for (const part of cut(range, rangeBytes)) {
        const found = await involved(part);
        if (found.length > 0) yield* overlay(found).extents(part);
        else yield { ...part, kind: 'absent' } satisfies Extent;
      }
    },
    read: async (buffer, offset) => {
      for (const part of cut({ offset, length: buffer.length }, rangeBytes)) {
        const target = buffer.subarray(part.offset - offset, part.offset - offset + part.length);
        const found = await involved(part);
        if (found.length > 0) await overlay(found).read(target, part.offset);
        else target.fill(0);
      }
    },
  };
}

function* cut({ offset, length }: ByteRange, rangeBytes: number): Generator<ByteRange> {
  const end = offset + length;
  for (let at = offset; at < end; ) {
    const next = Math.min(end, (Math.floor(at / rangeBytes) + 1) * rangeBytes);
    yield { offset: at, length: next - at };
    at = next;
  }
}

/** The tables of the range are in memory afterwards: the overlay asks one layer after the other, and shall not wait for each. */
async function warm(layer: LazyLayer, range: ByteRange): Promise<void> {
  for await (const _extent of layer.extents(range)) return;
}
