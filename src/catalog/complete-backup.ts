// The changes of a backup's row that change its chain too: it is complete, it is deleted (or half of it is), its repository is forgotten.
// It must not be called before the repository has done its part: the sidecar is the commit, the row follows.

import { ChainkeepError } from '../plumbing/errors.ts';
import { refreshChain } from './backup-chains.ts';
import { BACKUP_JOBS, type BackupJob, findBackupJob, listDependents, type NewBackupJob, updateBackupJob } from './backup-jobs.ts';
import type { Catalog } from './catalog.ts';
import { sql } from './sql.ts';
import { insert, remove, update } from './table.ts';

export type CompletedBackup = NewBackupJob & Pick<BackupJob, 'chain_id' | 'completed_at' | 'size_bytes' | 'total_bytes'>;

/** The row of a committed backup, whether it was there (running) or not (recovered, found by a rescan), and its chain. May be repeated. */
export function completeBackup(catalog: Catalog, backup: CompletedBackup): Promise<void> {
  return catalog.transaction(async (unit) => {
    const row = { ...backup, status: 'completed', error_message: null } as const;
    if (await findBackupJob(unit, backup.id)) await update(unit, BACKUP_JOBS, row, sql`id = ${backup.id}`);
    else await insert(unit, BACKUP_JOBS, row);
    if (backup.chain_id !== null) await refreshChain(unit, backup.chain_id);
  });
}

/** A row that a rescan enters. In its transaction, which ends with `refreshChain` for each chain that it touched. */
export function insertFoundBackup(unit: Catalog, backup: CompletedBackup): Promise<void> {
  return insert(unit, BACKUP_JOBS, backup);
}

/** The same for one that is there. */
export async function updateFoundBackup(unit: Catalog, id: string, set: Partial<BackupJob>): Promise<void> {
  await update(unit, BACKUP_JOBS, set, sql`id = ${id}`);
}

/** Deletes the row of a backup, if it is there, and settles its chain. Throws BACKUP_HAS_DEPENDENTS. */
export function deleteBackupJob(catalog: Catalog, id: string): Promise<void> {
  return catalog.transaction(async (unit) => {
    const backup = await findBackupJob(unit, id);
    if (!backup) return;
    const dependents = await listDependents(unit, id);
    if (dependents.length > 0) {
      throw new ChainkeepError('BACKUP_HAS_DEPENDENTS', `${dependents.length} other backups need the backup ${id}`, {
        advice: 'delete the newest backups first; thinning out a chain is the work of chainkeep prune, which is not built yet',
        context: { backup_id: id, dependents },
      });
    }
    // What is left as a child has failed: it keeps its row, and needs no parent.
    await update(unit, BACKUP_JOBS, { parent_backup_id: null }, sql`parent_backup_id = ${id}`);
    if (backup.chain_id !== null) await refreshChain(unit, backup.chain_id, id);
    await remove(unit, BACKUP_JOBS, sql`id = ${id}`);
  });
}

/** The backup has lost its sidecar to a delete that did not end: it is none any more, and what is left of its files is rubbish. */
export function uncommitBackup(catalog: Catalog, id: string, reason: string): Promise<void> {
  return catalog.transaction(async (unit) => {
    const backup = await findBackupJob(unit, id);
    if (!backup) return;
    await updateBackupJob(unit, id, { status: 'failed', error_message: reason });
    if (backup.chain_id !== null) await refreshChain(unit, backup.chain_id);
  });
}

/** Drops the rows of all backups of a repository; its files are not touched. Answers how many there were. */
export function forgetBackups(catalog: Catalog, repositoryId: string): Promise<number> {
  return catalog.transaction(async (unit) => {
    await remove(unit, { name: 'backup_chains', columns: {} }, sql`repository_id = ${repositoryId}`);
    // RESTRICT refuses even when the child goes in the same statement.
    await update(unit, BACKUP_JOBS, { parent_backup_id: null }, sql`repository_id = ${repositoryId} and parent_backup_id is not null`);
    return remove(unit, BACKUP_JOBS, sql`repository_id = ${repositoryId}`);
  });
}
