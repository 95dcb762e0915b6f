// Equal and consecutive entries of an L2 table, taken together: a disk of 16 TiB has 268 million entries, and most say the same.
// It must not merge what differs in any bit that means something.

import { EXTENDED_L2_ENTRY_LENGTH, L2_ENTRY_LENGTH, type L2Entry, type L2Shape, readEntry } from './l2-entry.ts';

export interface L2Run {
  /** The first entry; the others have the same kind, their host offsets follow one cluster behind the other where there is one. */
  readonly entry: L2Entry;
  /** Entries, at least 1; exactly 1 where the entry has a fault, is compressed or mixed. */
  readonly count: number;
}

const TWO_32 = 0x1_0000_0000;

/** The run that begins at entry `index` and ends before entry `end` at the latest. */
export function readRun(table: DataView, index: number, end: number, shape: L2Shape): L2Run {
  const entry = readEntry(table, index, shape);
  if (entry.fault !== undefined || entry.kind === 'compressed' || entry.kind === 'mixed') return { entry, count: 1 };
  const step = entry.hostOffset === 0 ? 0 : 2 ** shape.clusterBits;
  const count = shape.extended ? countExtended(table, index, end, step) : countPlain(table, index, end, step);
  return { entry, count };
}

function countPlain(table: DataView, index: number, end: number, step: number): number {
  let at = index * L2_ENTRY_LENGTH;
  let high = table.getUint32(at);
  let low = table.getUint32(at + 4);
  let next = index + 1;
  for (; next < end; next += 1) {
    at += L2_ENTRY_LENGTH;
    low += step;
    if (low >= TWO_32) {
      low -= TWO_32;
      high += 1;
    }
    if (table.getUint32(at + 4) !== low || table.getUint32(at) !== high) break;
  }
  return next - index;
}

function countExtended(table: DataView, index: number, end: number, step: number): number {
  let at = index * EXTENDED_L2_ENTRY_LENGTH;
  let high = table.getUint32(at);
  let low = table.getUint32(at + 4);
  const zero = table.getUint32(at + 8);
  const allocated = table.getUint32(at + 12);
  let next = index + 1;
  for (; next < end; next += 1) {
    at += EXTENDED_L2_ENTRY_LENGTH;
    low += step;
    if (low >= TWO_32) {
      low -= TWO_32;
      high += 1;
    }
    if (table.getUint32(at + 4) !== low || table.getUint32(at) !== high) break;
    if (table.getUint32(at + 8) !== zero || table.getUint32(at + 12) !== allocated) break;
  }
  return next - index;
}
