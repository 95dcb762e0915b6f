// The refcounts as the image has them, block by block.
// Blocks that cannot be read count as zeros here; what is wrong with them is told where they are counted.

import { throwIfCancelled } from '../plumbing/errors.ts';
import type { CheckRun } from './check-run.ts';
import { REFCOUNT_TABLE_ENTRY_LENGTH, readRefcount, readRefcountTableEntry, refcountsPerBlock } from './refcounts.ts';

const PAGE_BYTES = 65_536;

/** A part of the window that one refcount block counts. */
interface CountedPart {
  /** Numbers of the first cluster and of the one behind the last. */
  readonly from: number;
  readonly to: number;
  /** Undefined where there is no block: the counts are zeros. */
  readonly block: DataView | undefined;
  /** Index in the block of the count of `from`. */
  readonly index: number;
}

/** Marks the clusters of the window whose stored refcount is one. */
export async function markStoredOnes(run: CheckRun): Promise<void> {
  const { window, header } = run;
  for await (const { from, to, block, index } of countedParts(run)) {
    if (!block) continue;
    for (let number = 0; number < to - from; number += 1) {
      if (readRefcount(block, index + number, header.refcountOrder) === 1) window.markStoredOne(from - window.first + number);
    }
  }
}

/** Compares stored and counted references of the window: too many are leaks, too few are corruption. */
export async function compareRefcounts(run: CheckRun): Promise<void> {
  const { window, findings, header } = run;
  for await (const { from, to, block, index } of countedParts(run)) {
    for (
      let number = block ? 0 : window.nextReferenced(from - window.first, to - window.first) - (from - window.first);
      number < to - from;
      number += 1
    ) {
      const stored = block ? readRefcount(block, index + number, header.refcountOrder) : 0;
      const counted = window.references(from - window.first + number);
      if (stored === 0 && counted === 0) continue;
      findings.lastCluster = from + number;
      if (stored !== counted) tell(run, from + number, stored, counted);
    }
  }
}

function tell({ findings, header }: CheckRun, cluster: number, stored: number, counted: number): void {
  const kind = stored > counted ? 'leak' : 'corruption';
  findings.add(kind, `the cluster at ${cluster * header.clusterSize} of the file has refcount ${stored}, ${counted} references were found`);
}

async function* countedParts(run: CheckRun): AsyncGenerator<CountedPart> {
  const { clusterBits, clusterSize, refcountOrder } = run.header;
  const perBlock = refcountsPerBlock(clusterBits, refcountOrder);
  const end = run.window.first + run.window.count;
  for (let from = run.window.first; from < end; ) {
    throwIfCancelled(run.signal);
    const to = Math.min(end, (Math.floor(from / perBlock) + 1) * perBlock);
    const offset = await locateBlock(run, Math.floor(from / perBlock));
    const [block] = offset === 0 ? [] : await run.tables.load([offset], clusterSize);
    yield { from, to, block, index: from % perBlock };
    from = to;
  }
}

/** 0 where there is no block that can be read. */
async function locateBlock(run: CheckRun, index: number): Promise<number> {
  const { refcountTableOffset, refcountTableClusters, clusterSize, clusterBits } = run.header;
  const length = refcountTableClusters * clusterSize;
  const at = index * REFCOUNT_TABLE_ENTRY_LENGTH;
  if (at >= length) return 0;
  const page = Math.floor(at / PAGE_BYTES) * PAGE_BYTES;
  const view = await run.refcountPage(refcountTableOffset + page, Math.min(PAGE_BYTES, length - page));
  if (!view) return 0;
  const { blockOffset, fault } = readRefcountTableEntry(view, (at - page) / REFCOUNT_TABLE_ENTRY_LENGTH, clusterBits);
  return fault === undefined && blockOffset + clusterSize <= run.fileSize ? blockOffset : 0;
}

/** Counts that are not zero behind the last cluster of the file: room that is kept for nothing. */
export async function findCountsBehindEnd(run: CheckRun): Promise<void> {
  const { clusterBits, clusterSize, refcountOrder, refcountTableClusters } = run.header;
  const perBlock = refcountsPerBlock(clusterBits, refcountOrder);
  const clusters = Math.ceil(run.fileSize / clusterSize);
  const blocks = (refcountTableClusters * clusterSize) / REFCOUNT_TABLE_ENTRY_LENGTH;
  const seen = new Set<number>();
  for (let index = Math.floor(clusters / perBlock); index < blocks; index += 1) {
    throwIfCancelled(run.signal);
    const offset = await locateBlock(run, index);
    // A block that stands in the table twice is corruption already, and a million times the same would take for ever.
    if (offset === 0 || seen.has(offset)) continue;
    seen.add(offset);
    const [block] = await run.tables.load([offset], clusterSize);
    if (!block) continue;
    for (let number = Math.max(0, clusters - index * perBlock); number < perBlock; number += 1) {
      if (readRefcount(block, number, refcountOrder) === 0) continue;
      const hostOffset = (index * perBlock + number) * clusterSize;
      run.findings.add('leak', `the cluster at ${hostOffset} lies behind the end of the file and has a refcount`);
    }
  }
}
