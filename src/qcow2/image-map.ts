// Which layer decides which range of a disk, as `qemu-img map --output=json` prints it.
// It reads metadata only.

import type { DiskReader } from '../disk/disk-reader.ts';
import type { ByteRange, Extent } from '../disk/extent.ts';
import { type LayerExtent, overlayExtents } from '../disk/overlay.ts';
import type { Qcow2Image } from './image.ts';
import type { Mapping } from './mapping.ts';

export interface MapEntry {
  /** Bytes from the start of the disk. */
  readonly start: number;
  readonly length: number;
  /** The layer that decides: 0 is the image itself, 1 what lies below it. */
  readonly depth: number;
  /** Does a layer say anything about the range? */
  readonly present: boolean;
  readonly zero: boolean;
  readonly data: boolean;
  readonly compressed: boolean;
  /** Of the first byte in the file of that layer; absent where the bytes are not there as they are. */
  readonly offset?: number;
}

/**
 * The map of a disk made of `layers`, newest first; images among them are opened as layers, without a backing disk.
 * Neighbours that differ in nothing are one entry. Throws QCOW2_INVALID at the first range that cannot be read.
 */
export async function* mapImage(layers: readonly DiskReader[], range?: ByteRange): AsyncGenerator<MapEntry> {
  const whole = range ?? { offset: 0, length: layers[0]?.size ?? 0 };
  let waiting: MapEntry | undefined;
  for await (const found of overlayExtents(layers, whole)) {
    for await (const entry of toEntries(layers, found)) {
      const joined = waiting && join(waiting, entry);
      if (waiting && !joined) yield waiting;
      waiting = joined ?? entry;
    }
  }
  if (waiting) yield waiting;
}

function join(first: MapEntry, second: MapEntry): MapEntry | undefined {
  const same =
    first.depth === second.depth &&
    first.present === second.present &&
    first.zero === second.zero &&
    first.data === second.data &&
    first.compressed === second.compressed;
  const follows = first.offset === undefined ? second.offset === undefined : second.offset === first.offset + first.length;
  return same && follows ? { ...first, length: first.length + second.length } : undefined;
}

async function* toEntries(layers: readonly DiskReader[], { extent, depth, beyond }: LayerExtent): AsyncGenerator<MapEntry> {
  const layer = layers[depth];
  if (!beyond && extent.kind !== 'data' && layer && isImage(layer)) {
    // An extent of zeros does not say whether a host cluster is kept for it; the mapping does.
    for await (const mapping of layer.mapping(extent)) yield mappingEntry(mapping, depth);
    return;
  }
  yield extentEntry(extent, depth, beyond === true, layer !== undefined && isImage(layer));
}

function isImage(layer: DiskReader): layer is Qcow2Image {
  return 'mapping' in layer;
}

function mappingEntry({ offset, length, kind, hostOffset }: Mapping, depth: number): MapEntry {
  const base = { start: offset, length, depth, present: kind !== 'unallocated', zero: true, data: false, compressed: false };
  return hostOffset === 0 ? base : { ...base, offset: hostOffset };
}

function extentEntry({ offset, length, kind, stored }: Extent, depth: number, beyond: boolean, inImage: boolean): MapEntry {
  const data = kind === 'data';
  // A piece of a compressed cluster has no place of its own, and nothing else in an image has none.
  const compressed = data && (stored ? stored.compression !== 'none' : inImage);
  const base = { start: offset, length, depth, present: kind !== 'absent' && !beyond, zero: !data, data, compressed };
  return stored && !compressed ? { ...base, offset: stored.offset } : base;
}
