// Checks the structure of an image like `qemu-img check`: every reference counted, and compared with the refcounts it carries.
// It changes nothing, reads no data, and looks at a fixed number of clusters at a time; larger images take several passes.

import type { ByteSource } from '../plumbing/byte-source.ts';
import { isChainkeepError } from '../plumbing/errors.ts';
import { type BitmapDirectory, readBitmaps } from './bitmaps.ts';
import { CheckFindings, type CheckReport } from './check-report.ts';
import { type CheckedImage, CheckRun, countedClusters } from './check-run.ts';
import { countReferences } from './count-references.ts';
import { AUTOCLEAR_BITMAPS, hasBit } from './feature-bits.ts';
import type { Qcow2Header } from './header.ts';
import { HostClusters } from './host-clusters.ts';
import { withImageName } from './invalid-image.ts';
import { DEFAULT_LIMITS, type Qcow2Limits } from './limits.ts';
import { readHead } from './read-head.ts';
import { readSnapshots, type Snapshot } from './snapshots.ts';
import { compareRefcounts, findCountsBehindEnd, markStoredOnes } from './stored-refcounts.ts';
import { createTableCache, TableReader } from './table-cache.ts';

/** 48 MiB of memory; 1 TiB of file with clusters of 64 KiB. */
const DEFAULT_WINDOW_CLUSTERS = 16 * 1024 ** 2;
const CACHE_BYTES = 4 * 1024 ** 2;
/** A full disk of 64 TiB in clusters of 64 KiB has 131 072; the rest is for its snapshots. */
const DEFAULT_MOST_TABLES = 4 * 1024 ** 2;

export interface CheckOptions {
  readonly limits?: Partial<Qcow2Limits>;
  /** Clusters of the file that are looked at together, 3 bytes of memory each. */
  readonly windowClusters?: number;
  /** L2 tables that are looked at, over all snapshots; an image with more is reported as not checked. */
  readonly mostTables?: number;
  /** Call two guest clusters in one host cluster corruption, as it is in an image without snapshots that we wrote. */
  readonly exclusive?: boolean;
  readonly signal?: AbortSignal;
}

/**
 * The report on an image; damage is in it and is not thrown.
 * Throws QCOW2_INVALID or QCOW2_UNSUPPORTED where the header is refused, CANCELLED, and what the source throws.
 */
export async function checkImage(source: ByteSource, options: CheckOptions = {}): Promise<CheckReport> {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  try {
    const { header } = await readHead(source, limits);
    const findings = new CheckFindings();
    const image: CheckedImage = {
      header,
      fileSize: source.size,
      tables: new TableReader(source, createTableCache(CACHE_BYTES)),
      snapshots: await snapshotsOrFinding(source, header, limits, findings),
      bitmaps: await countedBitmaps(source, header, limits),
      signal: options.signal,
      mostTables: options.mostTables ?? DEFAULT_MOST_TABLES,
    };
    await checkWindows(image, findings, options);
    return makeReport(source.name, header, findings);
  } catch (error) {
    throw withImageName(source.name, error);
  }
}

async function checkWindows(image: CheckedImage, findings: CheckFindings, options: CheckOptions): Promise<void> {
  const { clusterSize } = image.header;
  const clusters = countedClusters(image);
  const most = options.windowClusters ?? DEFAULT_WINDOW_CLUSTERS;
  for (let first = 0; first < clusters; first += most) {
    const window = new HostClusters({ first, count: Math.min(most, clusters - first), clusterSize, exclusive: options.exclusive ?? false });
    const run = new CheckRun(image, findings, window);
    await markStoredOnes(run);
    await countReferences(run);
    await compareRefcounts(run);
    if (run.firstPass) await findCountsBehindEnd(run);
  }
}

function makeReport(filename: string, header: Qcow2Header, findings: CheckFindings): CheckReport {
  return {
    filename,
    corruptions: findings.corruptions,
    leaks: findings.leaks,
    checkErrors: findings.checkErrors,
    totalClusters: Math.ceil(header.size / header.clusterSize),
    allocatedClusters: findings.allocatedClusters,
    compressedClusters: findings.compressedClusters,
    fragmentedClusters: findings.fragmentedClusters,
    imageEndOffset: (findings.lastCluster + 1) * header.clusterSize,
    problems: findings.problems,
  };
}

async function snapshotsOrFinding(
  source: ByteSource,
  header: Qcow2Header,
  limits: Qcow2Limits,
  findings: CheckFindings,
): Promise<{ readonly snapshots: readonly Snapshot[]; readonly tableLength: number }> {
  try {
    return await readSnapshots(source, header, limits);
  } catch (error) {
    if (!isChainkeepError(error, 'QCOW2_INVALID')) throw error;
    findings.add('unchecked', error.message);
    return { snapshots: [], tableLength: 0 };
  }
}

/** Without the autoclear bit bitmaps no longer count: their clusters are leaks, as qemu sees it. */
async function countedBitmaps(source: ByteSource, header: Qcow2Header, limits: Qcow2Limits): Promise<BitmapDirectory | undefined> {
  return hasBit(header.autoclear, AUTOCLEAR_BITMAPS) ? readBitmaps(source, header, limits) : undefined;
}
