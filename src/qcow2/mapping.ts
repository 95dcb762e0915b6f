// Where the bytes of a range of the disk lie in the image: L1, then L2, run by run.
// It reads metadata only, and it must never answer "zero" or "unallocated" for something it could not read.

import type { ByteRange } from '../disk/extent.ts';
import type { Qcow2Header } from './header.ts';
import { l2EntryCount } from './header-checks.ts';
import { invalidImage } from './invalid-image.ts';
import { L1_ENTRY_LENGTH, readL1Entry } from './l1-entry.ts';
import { type L2Entry, SUBCLUSTERS } from './l2-entry.ts';
import { readRun } from './l2-run.ts';
import type { TableReader } from './table-cache.ts';

/** A page of the L1 table; the whole table can have 32 MiB, and a chain a thousand of them. */
export const L1_PAGE_BYTES = 65_536;
/** L2 tables are read ahead up to this many bytes and tables, where the range goes that far. */
const READ_AHEAD_BYTES = 1024 ** 2;
const READ_AHEAD_TABLES = 64;
/** No compressed stream of a whole cluster is shorter; counted against images that use one stream for everything. */
const SHORTEST_STREAM = 8;

export interface Mapping {
  readonly offset: number;
  readonly length: number;
  /** `unallocated`: this image says nothing. `zero`: reads as zeros, whatever `hostOffset` is. */
  readonly kind: 'unallocated' | 'zero' | 'standard' | 'compressed';
  /** Offset in the image of the first byte, or of the compressed stream; 0 where there is no host cluster. */
  readonly hostOffset: number;
  /** Compressed: bytes that may belong to the stream, all of them inside the file. Else 0. */
  readonly storedLength: number;
  /** Compressed: bytes of the expanded cluster in front of `offset`. Else 0. */
  readonly skip: number;
}

export interface MappedImage {
  readonly header: Qcow2Header;
  readonly fileSize: number;
  readonly tables: TableReader;
  /** Refuse breaches of the format that QEMU's reader ignores. */
  readonly strict: boolean;
  /** L2 tables that the pages of the L1 table name, by the index of the page's first entry: of those that were looked at so far. */
  readonly tablesPerPage: Map<number, number>;
}

/** The mappings of `range`, which lies inside the disk, in order and without gaps. Throws QCOW2_INVALID where one cannot be read. */
export async function* readMappings(image: MappedImage, range: ByteRange): AsyncGenerator<Mapping> {
  const guard = new ExpansionGuard(image);
  let waiting: Mapping | undefined;
  try {
    for await (const mapping of walkTables(image, range, guard)) {
      guard.countMapping(mapping);
      const joined = waiting && join(waiting, mapping);
      if (waiting && !joined) yield waiting;
      waiting = joined ?? mapping;
    }
  } catch (error) {
    if (waiting) yield waiting; // what lies in front of the damage can be read
    throw error;
  }
  if (waiting) yield waiting;
}

function join(first: Mapping, second: Mapping): Mapping | undefined {
  if (first.kind !== second.kind || first.kind === 'compressed') return undefined;
  const expected = first.hostOffset === 0 ? 0 : first.hostOffset + first.length;
  return second.hostOffset === expected ? { ...first, length: first.length + second.length } : undefined;
}

/**
 * An image cannot hold more data or more tables than its file: a few kilobytes that map terabytes by using one cluster or one table again and
 * again are refused. Counted per walk, so that a small range costs nothing.
 */
class ExpansionGuard {
  readonly #fileSize: number;
  readonly #clusterSize: number;
  #plain = 0;
  #compressed = 0;
  #tables = 0;

  constructor({ fileSize, header }: MappedImage) {
    this.#fileSize = fileSize;
    this.#clusterSize = header.clusterSize;
  }

  countMapping(mapping: Mapping): void {
    if (mapping.kind === 'standard') this.#plain += mapping.length;
    else if (mapping.kind === 'compressed') this.#compressed += SHORTEST_STREAM;
    if (Math.max(this.#plain, this.#compressed) > this.#fileSize) throw this.#refuse('data', mapping.offset);
  }

  countTables(count: number, guestOffset: number): void {
    this.#tables += count;
    if (this.#tables * this.#clusterSize > this.#fileSize) throw this.#refuse('tables', guestOffset);
  }

  #refuse(what: string, guestOffset: number): Error {
    return invalidImage(
      `the image maps more ${what} than its file of ${this.#fileSize} bytes can hold: clusters are used again and again`,
      {
        guest_offset: guestOffset,
      },
    );
  }
}

async function* walkTables(image: MappedImage, range: ByteRange, guard: ExpansionGuard): AsyncGenerator<Mapping> {
  const { clusterSize, extendedL2 } = image.header;
  const tableRange = clusterSize * l2EntryCount(clusterSize, extendedL2);
  const end = range.offset + range.length;
  for (let at = range.offset; at < end; ) {
    const index = Math.floor(at / tableRange);
    const page = await loadL1Page(image, index);
    const missing = countMissing(page, index, Math.ceil(end / tableRange));
    const tables = missing > 0 ? [] : await loadTables(image, page, index, Math.ceil(end / tableRange));
    if (tables.length === 0) {
      // No table although the entry is not zero: reserved bits alone, which a reader that is not strict ignores.
      const stop = Math.min(end, (index + Math.max(1, missing)) * tableRange);
      yield unallocated(at, stop - at);
      at = stop;
      continue;
    }
    try {
      guard.countTables(tables.length, at);
      for (const [number, table] of tables.entries()) {
        const stop = Math.min(end, (index + number + 1) * tableRange);
        yield* walkTable(image, table, (index + number) * tableRange, { offset: at, length: stop - at });
        at = stop;
      }
    } finally {
      image.tables.giveBack(tables);
    }
  }
}

interface L1Page {
  readonly view: DataView;
  /** L1 index of its first entry. */
  readonly first: number;
  readonly count: number;
}

async function loadL1Page(image: MappedImage, index: number): Promise<L1Page> {
  const { l1Offset, l1Size } = image.header;
  const perPage = L1_PAGE_BYTES / L1_ENTRY_LENGTH;
  const first = Math.floor(index / perPage) * perPage;
  const count = Math.min(perPage, l1Size - first);
  const [view] = await image.tables.load([l1Offset + first * L1_ENTRY_LENGTH], count * L1_ENTRY_LENGTH);
  if (!view) throw new RangeError(`no L1 page for entry ${index}`);
  if (!image.tablesPerPage.has(first)) countNamedTables(image, { view, first, count });
  return { view, first, count };
}

/**
 * Every L2 table needs a cluster of its own. Counted for the image and not per walk: whoever reads a disk range by range would follow one
 * table of a small file through 64 TiB.
 */
function countNamedTables({ header, fileSize, tablesPerPage }: MappedImage, { view, first, count }: L1Page): void {
  let named = 0;
  for (let at = 0; at < count * L1_ENTRY_LENGTH; at += L1_ENTRY_LENGTH) {
    if (view.getUint32(at) !== 0 || view.getUint32(at + 4) !== 0) named += 1;
  }
  const all = [...tablesPerPage.values()].reduce((sum, other) => sum + other, named);
  if (all * header.clusterSize > fileSize) {
    throw invalidImage(`the image maps more tables than its file of ${fileSize} bytes can hold: clusters are used again and again`);
  }
  tablesPerPage.set(first, named);
}

/** How many entries from `index` on have no L2 table. */
function countMissing(page: L1Page, index: number, end: number): number {
  const stop = Math.min(end, page.first + page.count);
  let next = index;
  while (next < stop) {
    const at = (next - page.first) * L1_ENTRY_LENGTH;
    if (page.view.getUint32(at) !== 0 || page.view.getUint32(at + 4) !== 0) break;
    next += 1;
  }
  return next - index;
}

/** The L2 table of entry `index`, and of those behind it that have one, as far as it is worth reading ahead. */
async function loadTables(image: MappedImage, page: L1Page, index: number, end: number): Promise<DataView[]> {
  const { clusterSize } = image.header;
  const most = Math.max(1, Math.min(READ_AHEAD_TABLES, Math.floor(READ_AHEAD_BYTES / clusterSize)));
  const stop = Math.min(end, page.first + page.count, index + most);
  const offsets: number[] = [];
  for (let next = index; next < stop; next += 1) {
    const found = locateTable(image, page, next);
    // A broken entry further on is thrown when the walk gets there: what lies in front of it can be read.
    if (found.problem && next === index) throw found.problem;
    if (found.problem || found.offset === 0) break;
    offsets.push(found.offset);
  }
  return image.tables.load(offsets, clusterSize);
}

function locateTable(image: MappedImage, page: L1Page, index: number): { readonly offset: number; readonly problem?: Error } {
  const { clusterBits, clusterSize, extendedL2 } = image.header;
  const { l2Offset, fault, oddity } = readL1Entry(page.view, index - page.first, clusterBits);
  const past = l2Offset + clusterSize > image.fileSize ? `the L2 table at ${l2Offset} lies past the end of the file` : undefined;
  const why = fault ?? (image.strict ? oddity : undefined) ?? (l2Offset === 0 ? undefined : past);
  if (why === undefined) return { offset: l2Offset };
  const tableRange = clusterSize * l2EntryCount(clusterSize, extendedL2);
  const context = { guest_offset: index * tableRange, length: Math.min(tableRange, image.header.size - index * tableRange) };
  return { offset: l2Offset, problem: invalidImage(`L1 entry ${index}: ${why}`, context) };
}

function* walkTable(image: MappedImage, table: DataView, tableStart: number, range: ByteRange): Generator<Mapping> {
  const { clusterSize, clusterBits, extendedL2, version } = image.header;
  const shape = { clusterBits, extended: extendedL2, version };
  const end = range.offset + range.length;
  const stop = Math.ceil((end - tableStart) / clusterSize);
  for (let index = Math.floor((range.offset - tableStart) / clusterSize); index < stop; ) {
    const { entry, count } = readRun(table, index, stop, shape);
    const start = tableStart + index * clusterSize;
    const why = entry.fault ?? (image.strict ? entry.oddity : undefined);
    if (why !== undefined) throw unreadable(image, start, why);
    for (const mapping of mapRun(image, entry, start, count)) {
      const part = clip(mapping, range.offset, end);
      if (part) yield part;
    }
    index += count;
  }
}

function* mapRun(image: MappedImage, entry: L2Entry, start: number, count: number): Generator<Mapping> {
  const length = count * image.header.clusterSize;
  if (entry.kind === 'compressed') yield mapCompressed(image, entry, start);
  else if (entry.kind === 'mixed') yield* mapSubclusters(image, entry, start);
  else if (entry.kind === 'standard') yield* mapStandard(image, entry.hostOffset, start, length, image.header.clusterSize);
  else yield { offset: start, length, kind: entry.kind, hostOffset: entry.hostOffset, storedLength: 0, skip: 0 };
}

function mapCompressed(image: MappedImage, { hostOffset, storedLength }: L2Entry, start: number): Mapping {
  const available = image.fileSize - hostOffset;
  if (available <= 0) throw unreadable(image, start, `the compressed stream at ${hostOffset} lies past the end of the file`);
  const length = image.header.clusterSize;
  return { offset: start, length, kind: 'compressed', hostOffset, storedLength: Math.min(storedLength, available), skip: 0 };
}

/** In pieces of `unit`, each of which must lie in the file with all its bytes that belong to the disk. */
function* mapStandard(image: MappedImage, hostOffset: number, start: number, length: number, unit: number): Generator<Mapping> {
  const needed = Math.min(length, image.header.size - start);
  const available = image.fileSize - hostOffset;
  const complete = needed <= available ? length : Math.max(0, Math.floor(available / unit) * unit);
  if (complete > 0) yield { offset: start, length: complete, kind: 'standard', hostOffset, storedLength: 0, skip: 0 };
  if (complete === length) return;
  const why = `the cluster at ${hostOffset + complete} is not all inside the file of ${image.fileSize} bytes`;
  throw unreadable(image, start + complete, why);
}

function* mapSubclusters(image: MappedImage, entry: L2Entry, start: number): Generator<Mapping> {
  const { clusterSize, size } = image.header;
  const unit = clusterSize / SUBCLUSTERS;
  const { allocated, zero } = entry.subclusters ?? { allocated: 0, zero: 0 };
  for (let number = 0; number < SUBCLUSTERS && start + number * unit < size; number += 1) {
    const offset = start + number * unit;
    const hostOffset = entry.hostOffset === 0 ? 0 : entry.hostOffset + number * unit;
    if (((allocated >>> number) & 1) === 1) yield* mapStandard(image, hostOffset, offset, unit, unit);
    else {
      const kind = ((zero >>> number) & 1) === 1 ? 'zero' : 'unallocated';
      yield { offset, length: unit, kind, hostOffset, storedLength: 0, skip: 0 };
    }
  }
}

function clip(mapping: Mapping, from: number, to: number): Mapping | undefined {
  const offset = Math.max(mapping.offset, from);
  const length = Math.min(mapping.offset + mapping.length, to) - offset;
  if (length <= 0) return undefined;
  const cut = offset - mapping.offset;
  if (mapping.kind === 'compressed') return { ...mapping, offset, length, skip: cut };
  return { ...mapping, offset, length, hostOffset: mapping.hostOffset === 0 ? 0 : mapping.hostOffset + cut };
}

function unallocated(offset: number, length: number): Mapping {
  return { offset, length, kind: 'unallocated', hostOffset: 0, storedLength: 0, skip: 0 };
}

function unreadable(image: MappedImage, guestOffset: number, why: string): Error {
  return invalidImage(`the cluster at ${guestOffset} of the disk cannot be read: ${why}`, {
    guest_offset: guestOffset,
    length: Math.min(image.header.clusterSize, image.header.size - guestOffset),
  });
}
