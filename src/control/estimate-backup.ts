// How much room a backup may take: what is reserved for it before anything is read. Pure functions.
// It must not be smaller than what history shows, nor refuse a nightly incremental for what a full would take.

import type { BackupType } from '../repository/sidecar-fields.ts';

export interface BackupEstimate {
  readonly bytes: number;
  /** Where the number comes from, for the job log. */
  readonly basis: string;
}

export interface EstimateInput {
  readonly type: BackupType;
  /** All data of the source as a full would hold it: no backup of it is larger. */
  readonly mostBytes: number;
  /** Stored bytes of the latest backups of this disk in this repository that were of the same type; the newest first. */
  readonly history: readonly number[];
  /** Stored bytes of the full of its chain; 0 for a full. */
  readonly fullBytes: number;
}

/** Backups that are looked back at. */
export const ESTIMATE_HISTORY = 5;
/** A busy night may be twice as busy as any of the last ones. */
const HISTORY_FACTOR = 2;
/** The part of a full that a first incremental is taken for. */
const FIRST_PART = 10;
/** Tables, digests and the sidecar of a backup that stores next to nothing. */
const LEAST_BYTES = 4 * 1024 * 1024;

/**
 * A full takes what its source holds, at most. What a backup by comparison takes is known by its kind alone: twice the largest of the last ones; for
 * the first one, a tenth of its full. When more comes than was estimated, the store itself refuses, and nothing of the backup stays.
 */
export function estimateBackup({ type, mostBytes, history, fullBytes }: EstimateInput): BackupEstimate {
  const bound = { bytes: mostBytes, basis: 'all data of the source' };
  if (type === 'full') return bound;
  const recent = history.slice(0, ESTIMATE_HISTORY);
  const guess =
    recent.length > 0
      ? { bytes: HISTORY_FACTOR * Math.max(...recent), basis: `twice the largest of the last ${recent.length} of its type` }
      : { bytes: Math.ceil(fullBytes / FIRST_PART), basis: 'a tenth of its full: there was none of its type before' };
  const bytes = Math.max(LEAST_BYTES, guess.bytes);
  return bytes < mostBytes ? { ...guess, bytes } : bound;
}
