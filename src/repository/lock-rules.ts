// The rules of lock dates as pure functions over sidecars, settings and the dates that are there. No I/O, no clock: what is given in decides.
// It must not answer a date below one that is there: dates are never shortened.

import type { Immutability } from './immutability.ts';
import type { Sidecar } from './sidecar-fields.ts';

export const DAY_MS = 24 * 3600_000;

/** What a lock is judged by. Two times, each wrong in the direction that does no harm. */
export interface LockTime {
  /** For dates that are made: the later one of all clocks that can be believed. */
  readonly now: number;
  /** For dates that end: the earlier one. Undefined while no clock can be believed: then nothing expires. */
  readonly expireAt: number | undefined;
  /** Why nothing expires. */
  readonly problem?: string;
}

type LockedBackup = Pick<Sidecar, 'backup_id' | 'parent_backup_id' | 'backup_type' | 'completed_at'>;

/** Backup id → date, milliseconds since 1970. */
export type LockDates = ReadonlyMap<string, number>;

/** When a backup began to be one: of a clock that was ahead when it was made, not later than now. */
export function lockBase({ completed_at }: Pick<Sidecar, 'completed_at'>, now: number): number {
  return Math.min(Date.parse(completed_at), now);
}

/** The date that a backup has by itself; undefined where the settings do not lock its type. */
export function ownLock(
  backup: Pick<LockedBackup, 'backup_type' | 'completed_at'>,
  settings: Immutability | undefined,
  now: number,
): number | undefined {
  if (!settings || settings.min_retention_days === 0) return undefined;
  const applies = backup.backup_type === 'full' ? settings.apply_to_full_backups : settings.apply_to_incrementals;
  return applies ? lockBase(backup, now) + settings.min_retention_days * DAY_MS : undefined;
}

/**
 * The date of every backup of a disk that has one or needs one, the oldest first: its present one, its own, and that of everything that needs it,
 * whichever is the latest. What others need is locked until the end of a day, so that a chain that grows every hour is not extended every hour.
 */
export function planLocks(
  backups: readonly LockedBackup[],
  present: LockDates,
  settings: Immutability | undefined,
  now: number,
): Map<string, number> {
  const known = new Map(backups.map((backup) => [backup.backup_id, backup]));
  const dates = new Map(present);
  for (const backup of backups) {
    const own = ownLock(backup, settings, now) ?? 0;
    // A date that is over is not written any more; one that is there counts as it is. That of a backup from the future would move on with every look.
    const isFromTheFuture = Date.parse(backup.completed_at) > now && present.has(backup.backup_id);
    if (own > now && !isFromTheFuture) raise(dates, backup.backup_id, own);
  }
  // Children are younger, so that one pass is enough; names that somebody forged may need more, and each pass only raises dates.
  const youngestFirst = [...known.keys()].sort().reverse();
  for (let changed = true; changed; ) {
    changed = false;
    for (const id of youngestFirst) {
      const date = dates.get(id) ?? 0;
      const parent = known.get(id)?.parent_backup_id;
      if (parent == null || !known.has(parent) || date <= now || (dates.get(parent) ?? 0) >= date) continue;
      dates.set(parent, endOfDay(date)); // a loop of forged parents ends: midnight stays midnight
      changed = true;
    }
  }
  return new Map([...dates].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Backups under a hold, with all that they need. */
export function planHolds(backups: readonly LockedBackup[], held: ReadonlySet<string>): Set<string> {
  const known = new Map(backups.map((backup) => [backup.backup_id, backup]));
  const all = new Set(held);
  for (const id of all) {
    const parent = known.get(id)?.parent_backup_id;
    if (parent != null) all.add(parent); // a set that is gone through while it grows visits each once
  }
  return all;
}

/** When the store marks the files of a backup: grace delays the mark and nothing else. */
export function markDue(backup: Pick<Sidecar, 'completed_at'>, settings: Immutability | undefined, now: number): number {
  return lockBase(backup, now) + (settings?.grace_period_days ?? 0) * DAY_MS;
}

function raise(dates: Map<string, number>, id: string, date: number): void {
  if (date > (dates.get(id) ?? 0)) dates.set(id, date);
}

/** The first midnight (UTC) that is not before it. */
function endOfDay(date: number): number {
  return Math.min(Math.ceil(date / DAY_MS) * DAY_MS, Date.UTC(9999, 11, 31, 23, 59, 59, 999)); // years have four digits in names
}
