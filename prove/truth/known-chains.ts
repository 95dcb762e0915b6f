// What the next backup must be, as the pages for users say it, and which backups need which. It is written a second time here on purpose:
// it must not ask the program's own rules.

import type { BackupType } from '../../src/repository/sidecar-fields.ts';
import type { KnownDisk } from './known-disk.ts';

export interface Point {
  readonly id: string;
  readonly type: BackupType;
  readonly parent: Point | undefined;
  /** The id of the full that its chain begins with. */
  readonly chain: string;
  /** Of the chain. */
  readonly clusterSize: number;
  readonly content: KnownDisk;
}

export interface Choice {
  readonly type: 'auto' | BackupType;
  readonly compression: 'none' | 'zstd';
  /** Asked for; else it is that of the chain. */
  readonly clusterSize: number | undefined;
}

export interface ExpectedBackup {
  readonly type: BackupType;
  readonly parent: Point | undefined;
}

/** `points`: those that are there, oldest first. The current chain is that of the newest full. */
export function expectBackup(points: readonly Point[], choice: Choice, size: number): ExpectedBackup {
  const full = points.findLast((point) => point.type === 'full');
  const newest = points.findLast((point) => point.chain === full?.id);
  if (choice.type === 'full' || !full || !newest) return { type: 'full', parent: undefined };
  const shrank = size < newest.content.size;
  const otherClusters = choice.clusterSize !== undefined && choice.clusterSize !== full.clusterSize;
  if (shrank || otherClusters) return { type: 'full', parent: undefined };
  return choice.type === 'differential' ? { type: 'differential', parent: full } : { type: 'incremental', parent: newest };
}

export function isNeeded(point: Point, points: readonly Point[]): boolean {
  return points.some((other) => other.parent === point);
}

/** How many images are read for a point. */
export function depthOf(point: Point): number {
  return 1 + (point.parent ? depthOf(point.parent) : 0);
}
