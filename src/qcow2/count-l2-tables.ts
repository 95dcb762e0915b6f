// Counts the clusters that L2 tables refer to, each table as often as it is referred to itself.
// It must not follow a table further than its own entries, nor believe that one lies where its L1 entry says: the walk has looked at that.

import { throwIfCancelled } from '../plumbing/errors.ts';
import type { CheckRun } from './check-run.ts';
import { l2EntryCount } from './header-checks.ts';
import type { ClusterUse } from './host-clusters.ts';
import type { L2Entry } from './l2-entry.ts';
import { readRun } from './l2-run.ts';

const TABLES_AT_ONCE = 16;

/** An L2 table that lies in the file, and where it was found first. */
export interface L2Place {
  readonly l1: { readonly name: string; readonly active: boolean };
  /** Of the entry in the L1 table. */
  readonly index: number;
  readonly l2Offset: number;
  /** L1 entries that refer to it. */
  times: number;
}

export interface Reference {
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  readonly use: ClusterUse;
  /** What messages call it. */
  readonly name: string;
  readonly times?: number;
}

/** A reference to bytes of the file; what lies behind its last cluster, or behind the last refcount, is reported instead of counted. */
export function countBytes(run: CheckRun, { offset, length, use, name, times }: Reference): void {
  if (length === 0) return;
  const { clusterSize } = run.header;
  const fileEnd = Math.ceil(run.fileSize / clusterSize) * clusterSize;
  const end = run.clusters * clusterSize;
  if (offset + length > fileEnd) run.structural('corruption', `${name} (${length} bytes at ${offset}) goes on behind the end of the file`);
  else if (offset + length > end)
    run.structural('corruption', `${name} (${length} bytes at ${offset}) has no refcount: the table ends at ${end}`);
  if (offset >= end) return;
  for (const { hostOffset, before, now } of run.window.add(offset, Math.min(length, end - offset), use, times)) {
    run.findings.add('corruption', `the cluster at ${hostOffset} of the file is used twice: ${before} and ${now} (${name})`);
  }
}

export async function countTables(run: CheckRun, places: readonly L2Place[]): Promise<void> {
  const { clusterSize } = run.header;
  for (let at = 0; at < places.length; at += TABLES_AT_ONCE) {
    throwIfCancelled(run.signal);
    const batch = places.slice(at, at + TABLES_AT_ONCE);
    const tables = await run.tables.load(
      batch.map(({ l2Offset }) => l2Offset),
      clusterSize,
    );
    for (const [number, place] of batch.entries()) {
      const table = tables[number];
      if (!table) continue;
      if (!run.takeTable()) {
        const from = `entry ${place.index} of ${place.l1.name}`;
        run.structural('unchecked', `the image uses more L2 tables than a check looks at; that of ${from} and others were not looked at`);
        return;
      }
      countTable(run, place, table);
    }
  }
}

function countTable(run: CheckRun, place: L2Place, table: DataView): void {
  const { clusterBits, clusterSize, extendedL2, version } = run.header;
  const entries = l2EntryCount(clusterSize, extendedL2);
  let expected = 0;
  for (let index = 0; index < entries; ) {
    const { entry, count: length } = readRun(table, index, entries, { clusterBits, extended: extendedL2, version });
    const guestOffset = (place.index * entries + index) * clusterSize;
    countEntry(run, place, entry, length, guestOffset);
    if (place.l1.active && run.firstPass) expected = describeRun(run, entry, length, expected);
    index += length;
  }
}

function countEntry(run: CheckRun, { l1, times }: L2Place, entry: L2Entry, length: number, guestOffset: number): void {
  const { clusterSize, size } = run.header;
  const name = l1.active ? `guest offset ${guestOffset}` : `guest offset ${guestOffset} of ${l1.name}`;
  if (entry.fault ?? entry.oddity) run.structural('corruption', `${name}: ${entry.fault ?? entry.oddity}`, length);
  if (entry.fault !== undefined || entry.hostOffset === 0) return;
  if (entry.kind === 'compressed') {
    // Whole sectors count, as qemu counts them.
    const start = Math.floor(entry.hostOffset / 512) * 512;
    countBytes(run, { offset: start, length: entry.hostOffset + entry.storedLength - start, use: 'compressed', name, times });
    return;
  }
  countBytes(run, { offset: entry.hostOffset, length: length * clusterSize, use: 'standard', name, times });
  if (!l1.active) return;
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

export function checkCopied(run: CheckRun, hostOffset: number, copied: boolean, name: string): void {
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
