// Several layers as one disk: the newest that says something about a range decides.
// It keeps a bounded number of extents in memory, whatever the number of layers and the size of the disk.

import type { DiskReader } from './disk-reader.ts';
import type { ByteRange, Extent } from './extent.ts';

/** Extents that are resolved at once. */
const MOST_PIECES = 16_384;
/** Bytes of the disk that are resolved at once, at first; a sparse disk soon takes larger steps, a dense one smaller ones. */
const FIRST_STEP = 16 * 1024 ** 3;

export interface LayerExtent {
  readonly extent: Extent;
  /** The layer that decided it, 0 being the newest; the deepest one that was asked where the extent is absent. */
  readonly depth: number;
  /** Zero only because the layer below `depth` ends in front of it. */
  readonly beyond?: true;
}

/**
 * The layers, newest first, as one disk of the newest one's size. What no layer decides stays `absent`, and reads as zeros.
 * A layer that is shorter than the one above it reads as zeros behind its end, even where a deeper one is longer.
 * Closing it closes all layers.
 */
export function overlay(layers: readonly DiskReader[]): DiskReader {
  const [newest] = layers;
  if (!newest) throw new RangeError('an overlay needs a layer');
  return {
    size: newest.size,
    name: newest.name,
    extents: (range) => extentsOnly(overlayExtents(layers, range)),
    read: (buffer, offset) => readLayers(layers, buffer, offset),
    close: () => closeAll(layers),
  };
}

async function* extentsOnly(found: AsyncIterable<LayerExtent>): AsyncGenerator<Extent> {
  for await (const { extent } of found) yield extent;
}

/** The extents of `range` with the layer each comes from; neighbours that are both zero or both absent in one layer are one extent. */
export async function* overlayExtents(
  layers: readonly DiskReader[],
  range: ByteRange,
  mostPieces = MOST_PIECES,
): AsyncGenerator<LayerExtent> {
  const end = range.offset + range.length;
  let waiting: LayerExtent | undefined;
  let step = FIRST_STEP;
  for (let at = range.offset; at < end; ) {
    const from = at;
    const length = Math.min(step, end - at);
    const pieces = await resolve(layers, { offset: at, length }, mostPieces);
    for (const piece of pieces) {
      at = piece.extent.offset + piece.extent.length;
      const joined = waiting && join(waiting, piece);
      if (waiting && !joined) yield waiting;
      waiting = joined ?? piece;
    }
    // What the upper layers said behind the place that was reached is lost, so a step that was too long must not be repeated.
    if (at - from < length) step = at - from;
    else if (pieces.length < mostPieces / 2) step *= 2;
  }
  if (waiting) yield waiting;
}

/** A beginning of `range`, resolved through all layers: the whole of it, or as far as `mostPieces` reach. */
async function resolve(layers: readonly DiskReader[], range: ByteRange, mostPieces: number): Promise<LayerExtent[]> {
  let pieces: LayerExtent[] = [{ extent: { ...range, kind: 'absent' }, depth: 0 }];
  for (const [depth, layer] of layers.entries()) {
    const next: LayerExtent[] = [];
    for (const piece of pieces) {
      if (next.length >= mostPieces) break;
      if (piece.extent.kind === 'absent') await lookUp(layer, depth, piece.extent, next, mostPieces);
      else next.push(piece);
    }
    pieces = next;
  }
  return pieces;
}

/** What `layer` says about an extent that is absent in all layers above it. */
async function lookUp(layer: DiskReader, depth: number, extent: Extent, into: LayerExtent[], mostPieces: number): Promise<void> {
  const end = extent.offset + extent.length;
  const inside = Math.min(end, Math.max(extent.offset, layer.size));
  if (inside > extent.offset) {
    for await (const found of layer.extents({ offset: extent.offset, length: inside - extent.offset })) {
      into.push({ extent: found, depth });
      if (into.length >= mostPieces) return;
    }
  }
  // Behind the end of a layer nothing below counts: the disk above was grown when this layer was its whole past.
  if (inside < end) {
    into.push({ extent: { offset: inside, length: end - inside, kind: 'zero' }, depth: depth - 1, beyond: true });
  }
}

function join(first: LayerExtent, second: LayerExtent): LayerExtent | undefined {
  const { kind } = first.extent;
  if (kind === 'data' || second.extent.kind !== kind || second.depth !== first.depth || second.beyond !== first.beyond) return undefined;
  return { ...first, extent: { ...first.extent, length: first.extent.length + second.extent.length } };
}

async function readLayers(layers: readonly DiskReader[], buffer: Uint8Array, offset: number): Promise<void> {
  for await (const { extent, depth } of overlayExtents(layers, { offset, length: buffer.length })) {
    const part = buffer.subarray(extent.offset - offset, extent.offset - offset + extent.length);
    const layer = layers[depth];
    if (extent.kind === 'data' && layer) await layer.read(part, extent.offset);
    else part.fill(0);
  }
}

/** Closes all, also when one fails; the first failure is thrown. */
async function closeAll(layers: readonly DiskReader[]): Promise<void> {
  const results = await Promise.allSettled(layers.map((layer) => layer.close()));
  const failed = results.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
}
