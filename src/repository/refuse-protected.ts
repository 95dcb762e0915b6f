// The refusal to delete a backup that is locked or held: until when, by whom, why.
// It must not rely on one place alone: the files beside the backup, the settings, and what the catalog remembers all count.

import { isoTime, timeOfId } from '../plumbing/clock.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import type { BlobInfo } from '../store/blob-store.ts';
import { type DiskPlace, diskFolder } from './layout.ts';
import { DAY_MS, ownLock } from './lock-rules.ts';
import { type Hold, isActive, readProtections } from './protection.ts';
import type { RepositoryContext } from './repository-context.ts';
import type { Sidecar } from './sidecar-fields.ts';

/** What the catalog knows of a backup's protection, for files that somebody took away. */
export interface KnownProtection {
  readonly lockedUntil: string | null;
  readonly holds: readonly Pick<Hold, 'holdId' | 'reason' | 'createdBy' | 'createdAt'>[];
}

/**
 * Throws HOLD_ACTIVE, IMMUTABLE_RETENTION_ACTIVE or PROTECTION_INVALID; CLOCK_JUMPED for a backup that has a date while no clock can be believed.
 * `sidecar`: `damaged` where it cannot be read, undefined where there is no backup (any more) that could have a date of its own.
 */
export async function refuseProtected(
  context: RepositoryContext,
  place: DiskPlace,
  backupId: string,
  sidecar: Sidecar | 'damaged' | undefined,
  known?: KnownProtection,
): Promise<void> {
  const { store, blake3, immutability } = context;
  const listed: BlobInfo[] = [];
  for await (const info of store.list(`${diskFolder(place)}${backupId}.`)) listed.push(info);
  const found = (await readProtections(store, blake3, listed)).get(backupId);
  const held = [...(found?.holds.filter(isActive) ?? []), ...(known?.holds ?? [])];
  const [damage] = found?.damage ?? [];
  const lastDates = [found?.lockedUntil, known?.lockedUntil].flatMap((date) => (date == null ? [] : [Date.parse(date)]));
  if (lastDates.length === 0 && held.length === 0 && !damage && !immutability) return;
  const time = await context.time();
  const own = sidecar && ownDate(context, backupId, sidecar, time.now);
  const until = Math.max(...lastDates, own ?? 0);
  const [hold] = held;
  if (hold) throw heldError(backupId, hold, until);
  if (damage) throw damage; // a name that is neither a hold nor a date, and may have been one
  if (until <= 0) return;
  if (time.expireAt === undefined) throw clockError(backupId, until, time.problem);
  if (until > time.expireAt) throw lockedError(backupId, until);
}

/** A damaged sidecar does not say of which type the backup is: the stronger reading counts. */
function ownDate({ immutability }: RepositoryContext, backupId: string, sidecar: Sidecar | 'damaged', now: number): number | undefined {
  if (sidecar !== 'damaged') return ownLock(sidecar, immutability, now);
  return immutability && Math.min(timeOfId(backupId), now) + immutability.min_retention_days * DAY_MS;
}

function heldError(
  backupId: string,
  { holdId, reason, createdBy, createdAt }: KnownProtection['holds'][number],
  until: number,
): ChainkeepError {
  const message = `backup ${backupId} is held by ${createdBy} since ${createdAt}: ${reason}`;
  const lock = until > 0 ? { retention_expires_at: isoTime(until) } : {};
  return new ChainkeepError('HOLD_ACTIVE', message, {
    advice: `when the reason is gone: chainkeep hold lift ${holdId}`,
    context: { backup_id: backupId, hold_id: holdId, reason, held_by: createdBy, held_since: createdAt, ...lock },
  });
}

export function lockedError(backupId: string, until: number): ChainkeepError {
  return new ChainkeepError('IMMUTABLE_RETENTION_ACTIVE', `backup ${backupId} is locked until ${isoTime(until)}`, {
    advice: 'it cannot be deleted before that date, by nobody and with no option; a lock is never shortened',
    context: { backup_id: backupId, retention_expires_at: isoTime(until) },
  });
}

export function clockError(backupId: string, until: number, problem: string | undefined): ChainkeepError {
  const message = `backup ${backupId} has a lock until ${isoTime(until)}, and nothing expires now: ${problem ?? 'the time is not known'}`;
  return new ChainkeepError('CLOCK_JUMPED', message, {
    advice: 'set the clock right; if it is right, confirm it with: chainkeep clock confirm',
    context: { backup_id: backupId, retention_expires_at: isoTime(until) },
  });
}
