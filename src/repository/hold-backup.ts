// Writes the files of holds: one that holds, and one that lifts it. What the store then does is found by look-at-protection.ts.
// It must not lift a hold whose file cannot be read, and never removes one.

import { isoTime, newId } from '../plumbing/clock.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import type { BlobInfo } from '../store/blob-store.ts';
import { writeBlob } from './blobs.ts';
import type { Guard } from './guard.ts';
import { type DiskPlace, diskFolder, holdFile, liftedFile } from './layout.ts';
import { type Hold, isActive, isDamagedHoldId, type Protection, readProtections } from './protection.ts';
import type { RepositoryContext } from './repository-context.ts';
import { encodeSealed } from './sealed-json.ts';

export interface HoldRequest {
  readonly reason: string;
  /** Who: a user and a machine. */
  readonly by: string;
}

/** Only the one writer of the disk may call it. Answers the hold as it is read back. */
export async function addHold(
  context: RepositoryContext,
  place: DiskPlace,
  backupId: string,
  { reason, by }: HoldRequest,
  guard: Guard,
): Promise<Hold> {
  const holdId = newId(context.clock);
  const at = isoTime(context.clock.now());
  const found = await protectionOf(context, place, backupId);
  const number = 1 + Math.max(0, ...(found?.holds ?? []).map((hold) => hold.number));
  const fields = { format: 1, hold_id: holdId, backup_id: backupId, reason, by, at };
  await guard.assertHeld();
  await context.assertOwned();
  await writeBlob(context.store, diskFolder(place) + holdFile(backupId, number), encodeSealed(context.blake3, fields), { ifAbsent: true });
  return { number, holdId, reason, createdBy: by, createdAt: at, liftedBy: null, liftedAt: null };
}

/** One that is lifted already stays as it is. Throws HOLD_NOT_FOUND for one that has no file, PROTECTION_INVALID for one that cannot be read. */
export async function liftHold(
  context: RepositoryContext,
  place: DiskPlace,
  backupId: string,
  { holdId, by }: { readonly holdId: string; readonly by: string },
  guard: Guard,
): Promise<Hold> {
  const found = await protectionOf(context, place, backupId);
  const hold = found?.holds.find((candidate) => candidate.holdId === holdId);
  if (!hold) {
    throw new ChainkeepError('HOLD_NOT_FOUND', `hold ${holdId} of backup ${backupId} has no file in the repository`, {
      advice: 'bring its file back from a copy; until then it holds',
      context: { hold_id: holdId, backup_id: backupId },
    });
  }
  if (!isActive(hold)) return hold; // the catalog was not told
  const damage = found?.damage[0];
  if (isDamagedHoldId(holdId) && damage) throw damage;
  const at = isoTime(context.clock.now());
  const fields = { format: 1, hold_id: holdId, backup_id: backupId, by, at };
  await guard.assertHeld();
  await context.assertOwned();
  await writeBlob(context.store, diskFolder(place) + liftedFile(backupId, hold.number), encodeSealed(context.blake3, fields), {
    ifAbsent: true,
  });
  return { ...hold, liftedBy: by, liftedAt: at };
}

async function protectionOf({ store, blake3 }: RepositoryContext, place: DiskPlace, backupId: string): Promise<Protection | undefined> {
  const listed: BlobInfo[] = [];
  for await (const info of store.list(`${diskFolder(place)}${backupId}.`)) listed.push(info);
  return (await readProtections(store, blake3, listed)).get(backupId);
}
