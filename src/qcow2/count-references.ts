// Walks everything an image refers to and counts the clusters it uses: header, tables, data, snapshots, bitmaps.
// It follows each table once per L1 table, and stops where an image uses more tables than its file can hold.

import { throwIfCancelled } from '../plumbing/errors.ts';
import { BITMAP_TABLE_ENTRY_LENGTH, type BitmapDirectory, readBitmapTableEntry } from './bitmaps.ts';
import type { CheckRun } from './check-run.ts';
import { l2EntryCount } from './header-checks.ts';
import type { ClusterUse } from './host-clusters.ts';
import { L1_ENTRY_LENGTH, readL1Entry } from './l1-entry.ts';
import type { L2Entry } from './l2-entry.ts';
import { readRun } from './l2-run.ts';
import { L1_PAGE_BYTES } from './mapping.ts';
import { REFCOUNT_TABLE_ENTRY_LENGTH, readRefcountTableEntry } from './refcounts.ts';

const TABLES_AT_ONCE = 16;
const PAGE_BYTES = 65_536;

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
  count(run, 0, header.clusterSize, 'structure', 'the header');
  await countL1(run, { offset: header.l1Offset, size: header.l1Size, name: 'the L1 table', active: true });
  count(run, header.snapshotsOffset, snapshots.tableLength, 'structure', 'the snapshot table');
  for (const [index, { l1Offset, l1Size }] of snapshots.snapshots.entries()) {
    await countL1(run, { offset: l1Offset, size: l1Size, name: `the L1 table of snapshot ${index + 1}`, active: false });
  }
  await countRefcountStructures(run);
  if (run.bitmaps) await countBitmaps(run, run.bitmaps);
}

/** A reference to bytes of the file; what lies behind its last cluster, or behind the last refcount, is reported instead of counted. */
function count(run: CheckRun, offset: number, length: number, use: ClusterUse, name: string): void {
  if (length === 0) return;
  const { clusterSize } = run.header;
  const fileEnd = Math.ceil(run.fileSize / clusterSize) * clusterSize;
  const end = run.clusters * clusterSize;
  if (offset + length > fileEnd) run.structural('corruption', `${name} (${length} bytes at ${offset}) goes on behind the end of the file`);
  else if (offset + length > end)
    run.structural('corruption', `${name} (${length} bytes at ${offset}) has no refcount: the table ends at ${end}`);
  if (offset >= end) return;
  for (const { hostOffset, before, now } of run.window.add(offset, Math.min(length, end - offset), use)) {
    run.findings.add('corruption', `the cluster at ${hostOffset} of the file is used twice: ${before} and ${now} (${name})`);
  }
}

async function countL1(run: CheckRun, place: L1Place): Promise<void> {
  const { clusterBits, clusterSize } = run.header;
  count(run, place.offset, place.size * L1_ENTRY_LENGTH, 'structure', place.name);
  const mostTables = Math.ceil(run.fileSize / clusterSize);
  let tables = 0;
  for await (const { view, first } of pages(run, place.offset, place.size * L1_ENTRY_LENGTH, L1_PAGE_BYTES)) {
    const batch: { index: number; l2Offset: number }[] = [];
    for (let number = 0; number < view.byteLength / L1_ENTRY_LENGTH; number += 1) {
      const entry = readL1Entry(view, number, clusterBits);
      const index = first / L1_ENTRY_LENGTH + number;
      const name = `entry ${index} of ${place.name}`;
      if (entry.fault ?? entry.oddity) run.structural('corruption', `${name}: ${entry.fault ?? entry.oddity}`);
      if (entry.fault !== undefined || entry.l2Offset === 0) continue;
      count(run, entry.l2Offset, clusterSize, 'l2', `the L2 table of ${name}`);
      if (place.active) checkCopied(run, entry.l2Offset, entry.copied, name);
      if (entry.l2Offset + clusterSize > run.fileSize) {
        tellCutTable(run, entry.l2Offset, name);
        continue;
      }
      tables += 1;
      if (tables > mostTables || !run.takeTable()) {
        run.structural(
          'unchecked',
          `${place.name} uses more L2 tables than the file can hold; those from entry ${index} on were not looked at`,
        );
        return;
      }
      batch.push({ index, l2Offset: entry.l2Offset });
      if (batch.length === TABLES_AT_ONCE) await countTables(run, place, batch.splice(0));
    }
    await countTables(run, place, batch);
  }
}

/** A table that begins in the last cluster of a file that ends inside of it; what lies behind that cluster was told when it was counted. */
function tellCutTable(run: CheckRun, l2Offset: number, name: string): void {
  if (l2Offset >= run.fileSize) return;
  run.structural('corruption', `${name}: the L2 table at ${l2Offset} is not all inside the file of ${run.fileSize} bytes`);
}

async function countTables(run: CheckRun, place: L1Place, batch: readonly { index: number; l2Offset: number }[]): Promise<void> {
  throwIfCancelled(run.signal);
  const { clusterSize } = run.header;
  const tables = await run.tables.load(
    batch.map(({ l2Offset }) => l2Offset),
    clusterSize,
  );
  for (const [number, { index }] of batch.entries()) {
    const table = tables[number];
    if (table) countTable(run, place, table, index);
  }
}

function countTable(run: CheckRun, place: L1Place, table: DataView, l1Index: number): void {
  const { clusterBits, clusterSize, extendedL2, version } = run.header;
  const entries = l2EntryCount(clusterSize, extendedL2);
  let expected = 0;
  for (let index = 0; index < entries; ) {
    const { entry, count: length } = readRun(table, index, entries, { clusterBits, extended: extendedL2, version });
    const guestOffset = (l1Index * entries + index) * clusterSize;
    countEntry(run, place, entry, length, guestOffset);
    if (place.active && run.firstPass) expected = describeRun(run, entry, length, expected);
    index += length;
  }
}

function countEntry(run: CheckRun, place: L1Place, entry: L2Entry, length: number, guestOffset: number): void {
  const { clusterSize, size } = run.header;
  const name = place.active ? `guest offset ${guestOffset}` : `guest offset ${guestOffset} of ${place.name}`;
  if (entry.fault ?? entry.oddity) run.structural('corruption', `${name}: ${entry.fault ?? entry.oddity}`, length);
  if (entry.fault !== undefined || entry.hostOffset === 0) return;
  if (entry.kind === 'compressed') {
    // Whole sectors count, as qemu counts them.
    const start = Math.floor(entry.hostOffset / 512) * 512;
    count(run, start, entry.hostOffset + entry.storedLength - start, 'compressed', name);
    return;
  }
  count(run, entry.hostOffset, length * clusterSize, 'standard', name);
  if (!place.active) return;
  const used = usedBytes(entry, length, clusterSize, size - guestOffset);
  const counted = entry.hostOffset + length * clusterSize <= Math.ceil(run.fileSize / clusterSize) * clusterSize;
  // qemu-img reads the missing part of a last cluster as zeros and calls it healthy; data that are not there are not zeros.
  if (counted && entry.hostOffset + used > run.fileSize) {
    run.structural('corruption', `${name}: the cluster at ${entry.hostOffset} is not all inside the file of ${run.fileSize} bytes`);
  }
  for (let number = 0; number < length; number += 1) {
    checkCopied(run, entry.hostOffset + number * clusterSize, entry.copied, `guest offset ${guestOffset + number * clusterSize}`);
  }
}

/** Bytes from the host offset on that must be in the file: those that belong to the disk and are data. */
function usedBytes(entry: L2Entry, length: number, clusterSize: number, left: number): number {
  if (entry.kind === 'standard') return Math.max(0, Math.min(length * clusterSize, left));
  const allocated = entry.subclusters?.allocated ?? 0;
  const last = 32 - Math.clz32(allocated);
  return Math.max(0, Math.min((last * clusterSize) / 32, left));
}

function checkCopied(run: CheckRun, hostOffset: number, copied: boolean, name: string): void {
  const one = run.window.isStoredOne(hostOffset);
  if (one === undefined || one === copied || hostOffset >= run.fileSize) return;
  run.findings.add('corruption', `${name}: COPIED is ${copied ? 'set' : 'not set'}, but the refcount is ${one ? '' : 'not '}one`);
}

/** Counts for the summary; answers the host offset at which the next cluster would not be a fragment, 0 where there is none yet. */
function describeRun(run: CheckRun, entry: L2Entry, length: number, expected: number): number {
  if (entry.fault !== undefined || entry.hostOffset === 0) return expected;
  const { findings, header } = run;
  findings.allocatedClusters += length;
  if (entry.kind === 'compressed') {
    findings.compressedClusters += 1;
    findings.fragmentedClusters += 1;
    return expected;
  }
  if (expected !== 0 && entry.hostOffset !== expected) findings.fragmentedClusters += 1;
  return entry.hostOffset + length * header.clusterSize;
}

async function countRefcountStructures(run: CheckRun): Promise<void> {
  const { refcountTableOffset, refcountTableClusters, clusterSize, clusterBits } = run.header;
  const length = refcountTableClusters * clusterSize;
  count(run, refcountTableOffset, length, 'structure', 'the refcount table');
  for await (const { view, first } of pages(run, refcountTableOffset, length, PAGE_BYTES)) {
    for (let number = 0; number < view.byteLength / REFCOUNT_TABLE_ENTRY_LENGTH; number += 1) {
      const { blockOffset, fault } = readRefcountTableEntry(view, number, clusterBits);
      const name = `refcount block ${first / REFCOUNT_TABLE_ENTRY_LENGTH + number}`;
      if (fault !== undefined) run.structural('corruption', `${name}: ${fault}`);
      else if (blockOffset !== 0) count(run, blockOffset, clusterSize, 'structure', name);
    }
  }
}

async function countBitmaps(run: CheckRun, directory: BitmapDirectory): Promise<void> {
  if (directory.problem !== undefined) run.structural('unchecked', directory.problem);
  count(run, directory.offset, directory.length, 'structure', 'the bitmap directory');
  for (const bitmap of directory.bitmaps) {
    const name = `the bitmap ${JSON.stringify(bitmap.name)}`;
    const length = bitmap.tableSize * BITMAP_TABLE_ENTRY_LENGTH;
    const { clusterSize } = run.header;
    if (bitmap.tableOffset % clusterSize !== 0 || bitmap.tableOffset + length > run.fileSize) {
      run.structural('corruption', `the table of ${name} (${length} bytes at ${bitmap.tableOffset}) is not at a cluster of the file`);
      continue;
    }
    count(run, bitmap.tableOffset, length, 'structure', `the table of ${name}`);
    for await (const { view } of pages(run, bitmap.tableOffset, length, PAGE_BYTES)) {
      for (let number = 0; number < view.byteLength / BITMAP_TABLE_ENTRY_LENGTH; number += 1) {
        const { offset, fault } = readBitmapTableEntry(view, number, clusterSize);
        if (fault !== undefined) run.structural('corruption', `${name}: ${fault}`);
        else if (offset !== 0) count(run, offset, clusterSize, 'structure', name);
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
