// A backup whose row belongs to another repository: what this repository holds of it is a copy, which is a row of backup_copies.
// It must not touch the row of the backup itself, nor a copy that is being made.

import { type BackupCopy, findBackupCopy, insertBackupCopy, updateBackupCopy } from '../../catalog/backup-copies.ts';
import { MISSING } from '../../catalog/backup-marks.ts';
import type { BackupRepository } from '../../catalog/backup-repositories.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { newId } from '../../plumbing/clock.ts';
import type { ChainkeepError } from '../../plumbing/errors.ts';
import { diskFolder, imageFile } from '../../repository/layout.ts';
import type { Sidecar } from '../../repository/sidecar-fields.ts';
import type { Settled } from './rescan-tally.ts';

/** What lies there: nothing but its id where only the catalog knows it. */
export interface FoundCopy {
  readonly backupId: string;
  readonly sidecar: Sidecar | undefined;
  readonly damage: ChainkeepError | undefined;
}

const AT_WORK: ReadonlySet<BackupCopy['status']> = new Set(['pending', 'copying', 'verifying']);

/** `known`: the row of the copy, where there is one. */
export async function settleCopy(
  unit: Catalog,
  { backupId, sidecar, damage }: FoundCopy,
  { id: repositoryId }: BackupRepository,
): Promise<Pick<Settled, 'report' | 'damage'>> {
  const known = await findBackupCopy(unit, backupId, repositoryId);
  if (known && AT_WORK.has(known.status)) return { report: sidecar || damage ? 'in progress' : 'nothing', damage: [] };
  const own = damage ? [damage] : [];
  if (sidecar) return { report: await enterCopy(unit, sidecar, repositoryId, { known, damage }), damage: own };
  if (known?.status !== 'completed') return { report: 'nothing', damage: own };
  await markCopy(unit, known, damage?.message ?? MISSING);
  return { report: damage ? 'nothing' : 'missing', damage: own };
}

/** Its row stays: only the catalog knows that there was one. */
async function markCopy(unit: Catalog, known: BackupCopy, error_message: string): Promise<void> {
  if (known.error_message !== error_message) await updateBackupCopy(unit, known.id, { error_message, verification_status: 'failed' });
}

async function enterCopy(
  unit: Catalog,
  sidecar: Sidecar,
  repositoryId: string,
  { known, damage }: { readonly known: BackupCopy | undefined; readonly damage: ChainkeepError | undefined },
): Promise<'added' | 'changed' | 'nothing'> {
  const place = { vmContextId: sidecar.vm_context_id, diskId: sidecar.disk_id };
  const copy = {
    status: 'completed',
    file_path: diskFolder(place) + imageFile(sidecar.backup_id),
    size_bytes: sidecar.size_bytes,
    bytes_copied: sidecar.size_bytes,
  } as const;
  const marks = marksOf(damage, known);
  if (!known) {
    const { created_at, started_at: copy_started_at, completed_at: copy_completed_at } = sidecar;
    const ids = { id: newId(unit.clock), source_backup_id: sidecar.backup_id, repository_id: repositoryId };
    await insertBackupCopy(unit, { ...ids, ...copy, ...marks, created_at, copy_started_at, copy_completed_at });
    return 'added';
  }
  const same = known.status === 'completed' && known.size_bytes === copy.size_bytes && known.file_path === copy.file_path;
  if (!same || known.error_message !== marks.error_message) await updateBackupCopy(unit, known.id, { ...copy, ...marks });
  return same ? 'nothing' : 'changed';
}

/** What a verify found out stays, until the files it looked at were lost and came back. Marks are not a change of the copy. */
function marksOf(
  damage: ChainkeepError | undefined,
  known: BackupCopy | undefined,
): Pick<BackupCopy, 'error_message' | 'verified_at' | 'verification_status'> {
  if (damage) return { error_message: damage.message, verified_at: known?.verified_at ?? null, verification_status: 'failed' };
  const kept = known?.status === 'completed' && known.error_message === null ? known : undefined;
  return { error_message: null, verified_at: kept?.verified_at ?? null, verification_status: kept?.verification_status ?? 'pending' };
}
