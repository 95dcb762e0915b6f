// Plans a transfer: walks the extents of a disk range by range and cuts them into units for the workers.
// Reads metadata only, and keeps no more than one range in memory.

import type { DiskReader } from '../disk/disk-reader.ts';
import type { ByteRange, Extent } from '../disk/extent.ts';
import type { ByteSource } from '../plumbing/byte-source.ts';
import { throwIfCancelled } from '../plumbing/errors.ts';
import type { ChangedClusters } from './changed-clusters.ts';
import { type ExpectedRange, type ExpectedView, RANGE_CLUSTERS } from './expected-view.ts';
import { CLUSTER, COMPRESSIONS, type ExpectedUse, PIECE, PIECE_NUMBERS, type Unit } from './unit.ts';

export interface UnitPlan {
  readonly reader: DiskReader;
  readonly clusterSize: number;
  readonly unitBytes: number;
  readonly view: ExpectedView;
  readonly expected: ExpectedUse;
  /** Where it is there, no other cluster is read; what becomes of the others, who hears the results must know. */
  readonly changed?: ChangedClusters | undefined;
  readonly sources: SourceTable;
  readonly signal?: AbortSignal;
}

/** Gives every byte source that the extents name a small number for the workers. */
export class SourceTable {
  readonly #sources: ByteSource[] = [];
  readonly #indexes = new Map<ByteSource, number>();

  indexOf(source: ByteSource): number {
    let index = this.#indexes.get(source);
    if (index === undefined) {
      index = this.#sources.length;
      this.#sources.push(source);
      this.#indexes.set(source, index);
    }
    return index;
  }

  at(index: number): ByteSource | undefined {
    return this.#sources[index];
  }
}

/** Pieces and stored lengths of one unit while its extents come in. */
type Window = number[];

export async function* planUnits(plan: UnitPlan): AsyncGenerator<Unit> {
  const { reader, clusterSize } = plan;
  const rangeBytes = RANGE_CLUSTERS * clusterSize;
  const checks = isCheck(plan.expected);
  let seq = 0;
  for (let range = 0, offset = 0; offset < reader.size; range++, offset += rangeBytes) {
    throwIfCancelled(plan.signal);
    const changed = plan.changed?.range(range);
    if (plan.changed && !changed) continue;
    const expected = plan.expected === 'ignore' ? undefined : await plan.view.range(range);
    // What is restored is what the digests record; a range without a record reads as zeros and needs no look at the images.
    if (plan.expected === 'require' && !expected) continue;
    const length = Math.min(rangeBytes, reader.size - offset);
    const windows = await collectWindows(plan, { offset, length }, { expected, changed });
    if (checks && expected) addExpectedWindows(windows, expected, plan);
    for (const window of [...windows.keys()].sort((a, b) => a - b)) {
      yield makeUnit(plan, seq++, offset, window, windows.get(window) ?? [], expected);
    }
  }
}

function isCheck(expected: ExpectedUse): boolean {
  return expected === 'require' || expected === 'report';
}

/** What is known of a range of the disk before it is read. */
interface KnownRange {
  readonly expected: ExpectedRange | undefined;
  /** One byte per cluster, 1 where it may have changed; undefined where all of them may. */
  readonly changed: Uint8Array | undefined;
}

async function collectWindows(plan: UnitPlan, range: ByteRange, known: KnownRange): Promise<Map<number, Window>> {
  const windows = new Map<number, Window>();
  for await (const extent of plan.reader.extents(range)) {
    if (extent.kind === 'data') addExtent(plan, windows, extent, range.offset, known);
  }
  return windows;
}

function addExtent(
  plan: UnitPlan,
  windows: Map<number, Window>,
  extent: Extent,
  rangeOffset: number,
  { expected, changed }: KnownRange,
): void {
  const { unitBytes, clusterSize } = plan;
  const end = extent.offset + extent.length - rangeOffset;
  for (let start = extent.offset - rangeOffset; start < end; ) {
    const cluster = Math.floor(start / clusterSize);
    if (changed && changed[cluster] !== 1) {
      start = nextCluster(changed, 1, cluster) * clusterSize;
      continue;
    }
    const window = Math.floor(start / unitBytes);
    const unchanged = changed ? nextCluster(changed, 0, cluster) * clusterSize : end;
    const stop = Math.min(end, (window + 1) * unitBytes, unchanged);
    let pieces = windows.get(window);
    if (!pieces) {
      pieces = [];
      windows.set(window, pieces);
    }
    const skipped = rangeOffset + start - extent.offset;
    // A stream that reaches into the next window is expanded by the reader itself.
    const inOne = stop - start === extent.length;
    // Only a check reads the very streams that the record is of; what is compared with a parent is a source of its own.
    const exactLength = isCheck(plan.expected) ? (expected?.storedLength(cluster) ?? 0) : 0;
    pieces.push(
      start - window * unitBytes,
      stop - start,
      ...storedNumbers(plan, inOne ? extent : withoutStream(extent), skipped, exactLength),
    );
    start = stop;
  }
}

function nextCluster(changed: Uint8Array, value: number, from: number): number {
  const found = changed.indexOf(value, from);
  return found < 0 ? changed.length : found;
}

function withoutStream(extent: Extent): Extent {
  const { offset, length, kind, stored } = extent;
  return stored && stored.compression !== 'none' ? { offset, length, kind } : extent;
}

/** SOURCE, AT, STORED_LENGTH, COMPRESSION, EXPANDED of a part of an extent that begins `skipped` bytes into it. */
function storedNumbers(plan: UnitPlan, extent: Extent, skipped: number, exactLength: number): number[] {
  const { stored } = extent;
  if (!stored) return [-1, extent.offset + skipped, 0, 0, 0];
  const source = plan.sources.indexOf(stored.source);
  if (stored.compression === 'none') return [source, stored.offset + skipped, 0, 0, 0];
  const expanded = stored.expandedLength ?? extent.length;
  // The image knows an upper bound only; the record, where it is of the same clusters, knows the exact length.
  const known = exactLength > 0 && expanded === plan.clusterSize;
  const length = known ? Math.min(exactLength, stored.length) : stored.length;
  return [source, stored.offset, length, COMPRESSIONS.indexOf(stored.compression), expanded];
}

/** Clusters that must hold data, but for which the reader has none: their unit finds zeros there, which is the damage to report. */
function addExpectedWindows(windows: Map<number, Window>, expected: ExpectedRange, plan: UnitPlan): void {
  const perWindow = plan.unitBytes / plan.clusterSize;
  for (let cluster = expected.kinds.indexOf(CLUSTER.DATA); cluster >= 0; ) {
    const window = Math.floor(cluster / perWindow);
    if (!windows.has(window)) windows.set(window, []);
    cluster = expected.kinds.indexOf(CLUSTER.DATA, (window + 1) * perWindow);
  }
}

/** A unit covers the clusters from the first to the last one of its window that have something in them, and no more. */
function makeUnit(
  plan: UnitPlan,
  seq: number,
  rangeOffset: number,
  window: number,
  pieces: Window,
  expected: ExpectedRange | undefined,
): Unit {
  const start = window * plan.unitBytes;
  const { first, last } = usedClusters(plan, start, pieces, expected);
  const skipped = first * plan.clusterSize - start;
  for (let at = PIECE.OFFSET; at < pieces.length; at += PIECE_NUMBERS) pieces[at] = (pieces[at] ?? 0) - skipped;
  const offset = rangeOffset + start + skipped;
  const length = Math.min((last - first) * plan.clusterSize, plan.reader.size - offset);
  const unit = { seq, offset, length, pieces: Float64Array.from(pieces) };
  if (!expected) return unit;
  const compressed = unit.pieces.some((number, at) => at % PIECE_NUMBERS === PIECE.COMPRESSION && number > 0);
  return {
    ...unit,
    // Copies: a message must not carry the whole range with it.
    expectedKinds: expected.kinds.slice(first, last),
    expectedDigests: expected.digests(first, last),
    ...(compressed && plan.expected !== 'compare' ? { expectedCrcs: expected.crcs(first, last) } : {}),
  };
}

/** First and last (exclusive) cluster of the range, inside one window, that has a piece or must have data. */
function usedClusters(plan: UnitPlan, start: number, pieces: Window, expected: ExpectedRange | undefined): { first: number; last: number } {
  const { clusterSize, unitBytes } = plan;
  let first = Number.POSITIVE_INFINITY;
  let last = 0;
  for (let at = 0; at < pieces.length; at += PIECE_NUMBERS) {
    const from = start + (pieces[at + PIECE.OFFSET] ?? 0);
    first = Math.min(first, Math.floor(from / clusterSize));
    last = Math.max(last, Math.ceil((from + (pieces[at + PIECE.LENGTH] ?? 0)) / clusterSize));
  }
  if (!expected || !isCheck(plan.expected)) return { first, last };
  const end = (start + unitBytes) / clusterSize;
  const data = expected.kinds.indexOf(CLUSTER.DATA, start / clusterSize);
  const lastData = expected.kinds.lastIndexOf(CLUSTER.DATA, end - 1);
  if (data >= 0 && data < end) return { first: Math.min(first, data), last: Math.max(last, lastData + 1) };
  return { first, last };
}
