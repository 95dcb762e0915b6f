// What one pass of a check works with.
// Problems of the structure are the same in every pass; they are told in the first.

import type { BitmapDirectory } from './bitmaps.ts';
import type { CheckFindings, ProblemKind } from './check-report.ts';
import type { Qcow2Header } from './header.ts';
import type { HostClusters } from './host-clusters.ts';
import { REFCOUNT_TABLE_ENTRY_LENGTH, refcountsPerBlock } from './refcounts.ts';
import type { Snapshot } from './snapshots.ts';
import type { TableReader } from './table-cache.ts';

export interface CheckedImage {
  readonly header: Qcow2Header;
  readonly fileSize: number;
  readonly tables: TableReader;
  readonly snapshots: { readonly snapshots: readonly Snapshot[]; readonly tableLength: number };
  /** Undefined where the image has none, or where they no longer count. */
  readonly bitmaps: BitmapDirectory | undefined;
  readonly signal: AbortSignal | undefined;
  /** L2 tables one pass may look at. */
  readonly mostTables: number;
}

export class CheckRun {
  readonly header: Qcow2Header;
  readonly fileSize: number;
  readonly tables: TableReader;
  readonly snapshots: CheckedImage['snapshots'];
  readonly bitmaps: BitmapDirectory | undefined;
  readonly signal: AbortSignal | undefined;
  readonly findings: CheckFindings;
  readonly window: HostClusters;
  readonly firstPass: boolean;
  /** Clusters of the file that have a refcount or could have one. */
  readonly clusters: number;
  #tablesLeft: number;
  #tableBytesLeft: number;
  #page: { readonly offset: number; readonly view: DataView } | undefined;

  constructor(image: CheckedImage, findings: CheckFindings, window: HostClusters) {
    this.header = image.header;
    this.fileSize = image.fileSize;
    this.tables = image.tables;
    this.snapshots = image.snapshots;
    this.bitmaps = image.bitmaps;
    this.signal = image.signal;
    this.findings = findings;
    this.window = window;
    this.firstPass = window.first === 0;
    this.clusters = countedClusters(image);
    this.#tablesLeft = image.mostTables;
    this.#tableBytesLeft = image.fileSize;
  }

  structural(kind: ProblemKind, message: string, count = 1): void {
    if (this.firstPass) this.findings.add(kind, message, count);
  }

  /** A page of the refcount table. It is asked for entry by entry, a million times for a large one, so the last one is kept here. */
  async refcountPage(offset: number, length: number): Promise<DataView | undefined> {
    if (this.#page?.offset === offset) return this.#page.view;
    const [view] = await this.tables.load([offset], length);
    this.#page = view && { offset, view };
    return view;
  }

  /** May one more L2 table be looked at? */
  takeTable(): boolean {
    this.#tablesLeft -= 1;
    return this.#tablesLeft >= 0;
  }

  /**
   * May so many bytes more of L1 and bitmap tables be looked at? No two of them share a byte, so all together fit into the file. A file of
   * 36 MiB can name one table of 32 MiB 65 536 times.
   */
  takeTableBytes(length: number): boolean {
    this.#tableBytesLeft -= length;
    return this.#tableBytesLeft >= 0;
  }
}

/** Clusters of the file, as far as the refcount table reaches: a sparse file of many terabytes costs no more than its table. */
export function countedClusters({ header, fileSize }: Pick<CheckedImage, 'header' | 'fileSize'>): number {
  const blocks = (header.refcountTableClusters * header.clusterSize) / REFCOUNT_TABLE_ENTRY_LENGTH;
  return Math.min(Math.ceil(fileSize / header.clusterSize), blocks * refcountsPerBlock(header.clusterBits, header.refcountOrder));
}
