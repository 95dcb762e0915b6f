// Holds that a rescan found, as rows of the catalog. The files are what holds.
// It must never end a hold: one that the catalog has and the repository has lost stays, and is named.

import type { BackupJob } from '../../catalog/backup-jobs.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { type HoldRow, insertHold, listHolds, removeHold, updateHold } from '../../catalog/holds.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { type Hold, isDamagedHoldId } from '../../repository/protection.ts';
import type { Item } from './rescan-batch.ts';

/** Backup id → its holds in the catalog. */
export type HeldRows = ReadonlyMap<string, readonly HoldRow[]>;

export async function readHolds(unit: Catalog, backupIds: readonly string[]): Promise<HeldRows> {
  return Map.groupBy(await listHolds(unit, backupIds), ({ backup_id }) => backup_id);
}

export interface HoldsOutcome {
  readonly changed: boolean;
  readonly damage: readonly ChainkeepError[];
}

/** `backup`: its row as it is now; without one there is nothing to hold. */
export async function applyHolds(
  unit: Catalog,
  { backupId, sidecar, protection }: Pick<Item, 'backupId' | 'sidecar' | 'protection'>,
  backup: BackupJob | undefined,
  known: readonly HoldRow[],
): Promise<HoldsOutcome> {
  if (!backup) return { changed: false, damage: [] };
  let changed = false;
  const damage: ChainkeepError[] = [];
  const rows = new Map(known.map((row) => [row.id, row]));
  for (const hold of protection?.holds ?? []) {
    const wanted = rowOf(backupId, hold);
    const row = rows.get(hold.holdId);
    rows.delete(hold.holdId);
    if (row && row.lifted_at === wanted.lifted_at && row.lifted_by === wanted.lifted_by && row.reason === wanted.reason) continue;
    changed = true;
    if (row) await updateHold(unit, row.id, wanted);
    else await insertHold(unit, wanted);
  }
  for (const row of rows.values()) {
    if (isDamagedHoldId(row.id)) {
      await removeHold(unit, row.id); // it stood for a file that can be read again
      changed = true;
    } else if (row.lifted_at === null) damage.push(lost(backupId, `the file of hold ${row.id} is not in the repository`));
  }
  const until = backup.protected_until;
  if (sidecar && until !== null && until !== protection?.lockedUntil) {
    damage.push(lost(backupId, `the lock until ${until} is not in the repository`));
  }
  return { changed, damage };
}

function rowOf(backupId: string, { holdId, reason, createdBy, createdAt, liftedBy, liftedAt }: Hold): HoldRow {
  return {
    id: holdId,
    backup_id: backupId,
    reason,
    created_by: createdBy,
    created_at: createdAt,
    lifted_by: liftedBy,
    lifted_at: liftedAt,
  };
}

function lost(backupId: string, what: string): ChainkeepError {
  return new ChainkeepError('PROTECTION_INVALID', `backup ${backupId}: ${what}; it counts as protected`, {
    advice: 'bring the file back from a copy',
    context: { backup_id: backupId },
  });
}
