// Walks everything an image refers to and counts the clusters it uses: header, tables, data, snapshots, bitmaps.
// It follows each L2 table of the snapshots once, however many share it, and stops where an image uses more tables than its file can hold.

import { throwIfCancelled } from '../plumbing/errors.ts';
import { BITMAP_TABLE_ENTRY_LENGTH, type BitmapDirectory, readBitmapTableEntry } from './bitmaps.ts';
import type { CheckRun } from './check-run.ts';
import { checkCopied, countBytes, countTables, type L2Place } from './count-l2-tables.ts';
import { L1_ENTRY_LENGTH, readL1Entry } from './l1-entry.ts';
import { L1_PAGE_BYTES } from './mapping.ts';
import { REFCOUNT_TABLE_ENTRY_LENGTH, readRefcountTableEntry } from './refcounts.ts';

const PAGE_BYTES = 65_536;
/** L2 tables of snapshots that are remembered before they are looked at: about 25 MiB. */
const MOST_REMEMBERED = 256 * 1024;

interface L1Place {
  readonly offset: number;
  /** Entries. */
  readonly size: number;
  /** What messages call it. */
  readonly name: string;
  /** Is it the table of the active state, whose COPIED flags and fragmentation count? */
  readonly active: boolean;
}

export async function countReferences(run: CheckRun): Promise<void> {
  const { header, snapshots } = run;
  countBytes(run, { offset: 0, length: header.clusterSize, use: 'structure', name: 'the header' });
  for await (const tables of walkL1(run, { offset: header.l1Offset, size: header.l1Size, name: 'the L1 table', active: true })) {
    await countTables(run, tables);
  }
  countBytes(run, { offset: header.snapshotsOffset, length: snapshots.tableLength, use: 'structure', name: 'the snapshot table' });
  await countSnapshots(run);
  await countRefcountStructures(run);
  if (run.bitmaps) await countBitmaps(run, run.bitmaps);
}

/** Snapshots share most of their L2 tables: each is looked at once, for all that refer to it. */
async function countSnapshots(run: CheckRun): Promise<void> {
  const shared = new Map<number, L2Place>();
  for (const [index, { l1Offset, l1Size }] of run.snapshots.snapshots.entries()) {
    const name = `the L1 table of snapshot ${index + 1}`;
    for await (const tables of walkL1(run, { offset: l1Offset, size: l1Size, name, active: false })) {
      for (const table of tables) {
        const known = shared.get(table.l2Offset);
        if (known) known.times += 1;
        else shared.set(table.l2Offset, table);
      }
      if (shared.size > MOST_REMEMBERED) await countShared(run, shared);
    }
  }
  await countShared(run, shared);
}

async function countShared(run: CheckRun, shared: Map<number, L2Place>): Promise<void> {
  await countTables(
    run,
    [...shared.values()].sort((a, b) => a.l2Offset - b.l2Offset),
  );
  shared.clear();
}

/** Counts an L1 table and its references to L2 tables; answers those that lie in the file, a page at a time. */
async function* walkL1(run: CheckRun, place: L1Place): AsyncGenerator<readonly L2Place[]> {
  const { clusterBits, clusterSize } = run.header;
  const length = place.size * L1_ENTRY_LENGTH;
  countBytes(run, { offset: place.offset, length, use: 'structure', name: place.name });
  if (!run.takeTableBytes(length)) {
    run.structural('unchecked', `${place.name}: the L1 tables are larger than the file together; this one and others were not looked at`);
    return;
  }
  const mostTables = Math.ceil(run.fileSize / clusterSize);
  let count = 0;
  for await (const { view, first } of pages(run, place.offset, length, L1_PAGE_BYTES)) {
    const tables: L2Place[] = [];
    for (let number = 0; number < view.byteLength / L1_ENTRY_LENGTH; number += 1) {
      const entry = readL1Entry(view, number, clusterBits);
      const index = first / L1_ENTRY_LENGTH + number;
      const name = `entry ${index} of ${place.name}`;
      if (entry.fault ?? entry.oddity) run.structural('corruption', `${name}: ${entry.fault ?? entry.oddity}`);
      if (entry.fault !== undefined || entry.l2Offset === 0) continue;
      countBytes(run, { offset: entry.l2Offset, length: clusterSize, use: 'l2', name: `the L2 table of ${name}` });
      if (place.active) checkCopied(run, entry.l2Offset, entry.copied, name);
      if (entry.l2Offset + clusterSize > run.fileSize) {
        tellCutTable(run, entry.l2Offset, name);
        continue;
      }
      count += 1;
      if (count > mostTables) {
        run.structural(
          'unchecked',
          `${place.name} uses more L2 tables than the file can hold; those from entry ${index} on were not looked at`,
        );
        yield tables;
        return;
      }
      tables.push({ l1: place, index, l2Offset: entry.l2Offset, times: 1 });
    }
    yield tables;
  }
}

/** A table that begins in the last cluster of a file that ends inside of it; what lies behind that cluster was told when it was counted. */
function tellCutTable(run: CheckRun, l2Offset: number, name: string): void {
  if (l2Offset >= run.fileSize) return;
  run.structural('corruption', `${name}: the L2 table at ${l2Offset} is not all inside the file of ${run.fileSize} bytes`);
}

async function countRefcountStructures(run: CheckRun): Promise<void> {
  const { refcountTableOffset, refcountTableClusters, clusterSize, clusterBits } = run.header;
  const length = refcountTableClusters * clusterSize;
  countBytes(run, { offset: refcountTableOffset, length, use: 'structure', name: 'the refcount table' });
  for await (const { view, first } of pages(run, refcountTableOffset, length, PAGE_BYTES)) {
    for (let number = 0; number < view.byteLength / REFCOUNT_TABLE_ENTRY_LENGTH; number += 1) {
      const { blockOffset, fault } = readRefcountTableEntry(view, number, clusterBits);
      const name = `refcount block ${first / REFCOUNT_TABLE_ENTRY_LENGTH + number}`;
      if (fault !== undefined) run.structural('corruption', `${name}: ${fault}`);
      else if (blockOffset !== 0) countBytes(run, { offset: blockOffset, length: clusterSize, use: 'structure', name });
    }
  }
}

async function countBitmaps(run: CheckRun, directory: BitmapDirectory): Promise<void> {
  if (directory.problem !== undefined) run.structural('unchecked', directory.problem);
  countBytes(run, { offset: directory.offset, length: directory.length, use: 'structure', name: 'the bitmap directory' });
  for (const bitmap of directory.bitmaps) {
    const name = `the bitmap ${JSON.stringify(bitmap.name)}`;
    const length = bitmap.tableSize * BITMAP_TABLE_ENTRY_LENGTH;
    const { clusterSize } = run.header;
    if (bitmap.tableOffset % clusterSize !== 0 || bitmap.tableOffset + length > run.fileSize) {
      run.structural('corruption', `the table of ${name} (${length} bytes at ${bitmap.tableOffset}) is not at a cluster of the file`);
      continue;
    }
    countBytes(run, { offset: bitmap.tableOffset, length, use: 'structure', name: `the table of ${name}` });
    if (!run.takeTableBytes(length)) {
      run.structural(
        'unchecked',
        `the tables of snapshots and bitmaps are larger than the file together; those from ${name} on were not looked at`,
      );
      return;
    }
    for await (const { view } of pages(run, bitmap.tableOffset, length, PAGE_BYTES)) {
      for (let number = 0; number < view.byteLength / BITMAP_TABLE_ENTRY_LENGTH; number += 1) {
        const { offset, fault } = readBitmapTableEntry(view, number, clusterSize);
        if (fault !== undefined) run.structural('corruption', `${name}: ${fault}`);
        else if (offset !== 0) countBytes(run, { offset, length: clusterSize, use: 'structure', name });
      }
    }
  }
}

/** A table in pages, so that 32 MiB of it are never in memory at once. */
async function* pages(run: CheckRun, offset: number, length: number, pageBytes: number): AsyncGenerator<{ view: DataView; first: number }> {
  for (let first = 0; first < length; first += pageBytes) {
    throwIfCancelled(run.signal);
    const [view] = await run.tables.load([offset + first], Math.min(pageBytes, length - first));
    if (view) yield { view, first };
  }
}
