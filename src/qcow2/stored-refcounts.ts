// The refcounts as the image has them, block by block.
// Blocks that cannot be read count as zeros here; what is wrong with them is told where they are counted.

import { throwIfCancelled } from '../plumbing/errors.ts';
import type { CheckRun } from './check-run.ts';
import { REFCOUNT_TABLE_ENTRY_LENGTH, readRefcount, readRefcountTableEntry, refcountsPerBlock } from './refcounts.ts';

const PAGE_BYTES = 65_536;

/** Marks the clusters of the window whose stored refcount is one. */
export async function markStoredOnes(run: CheckRun): Promise<void> {
  const { window } = run;
  await eachStored(run, (cluster, stored) => {
    if (stored === 1) window.markStoredOne(cluster - window.first);
  });
}

/** Compares stored and counted references of the window: too many are leaks, too few are corruption. */
export async function compareRefcounts(run: CheckRun): Promise<void> {
  const { window, findings, header } = run;
  await eachStored(run, (cluster, stored) => {
    const counted = window.references(cluster - window.first);
    if (stored > 0 || counted > 0) findings.lastCluster = Math.max(findings.lastCluster, cluster);
    if (stored === counted) return;
    const kind = stored > counted ? 'leak' : 'corruption';
    findings.add(
      kind,
      `the cluster at ${cluster * header.clusterSize} of the file has refcount ${stored}, ${counted} references were found`,
    );
  });
}

/** Every cluster of the window, ascending, with its stored refcount; 0 where there is no block for it. */
async function eachStored(run: CheckRun, visit: (cluster: number, stored: number) => void): Promise<void> {
  const { clusterBits, clusterSize, refcountOrder } = run.header;
  const perBlock = refcountsPerBlock(clusterBits, refcountOrder);
  const end = run.window.first + run.window.count;
  for (let cluster = run.window.first; cluster < end; ) {
    throwIfCancelled(run.signal);
    const blockEnd = Math.min(end, (Math.floor(cluster / perBlock) + 1) * perBlock);
    const offset = await locateBlock(run, Math.floor(cluster / perBlock));
    const [block] = offset === 0 ? [] : await run.tables.load([offset], clusterSize);
    for (; cluster < blockEnd; cluster += 1) visit(cluster, block ? readRefcount(block, cluster % perBlock, refcountOrder) : 0);
  }
}

/** 0 where there is no block that can be read. */
async function locateBlock(run: CheckRun, index: number): Promise<number> {
  const { refcountTableOffset, refcountTableClusters, clusterSize, clusterBits } = run.header;
  const length = refcountTableClusters * clusterSize;
  const at = index * REFCOUNT_TABLE_ENTRY_LENGTH;
  if (at >= length) return 0;
  const page = Math.floor(at / PAGE_BYTES) * PAGE_BYTES;
  const [view] = await run.tables.load([refcountTableOffset + page], Math.min(PAGE_BYTES, length - page));
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
