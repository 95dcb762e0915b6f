// The chain of a backup as the catalog knows it, and the restore point opened by it: what restores and exports read.

import { type BackupJob, selectBackupJobs } from '../../catalog/backup-jobs.ts';
import type { OpenedBackup } from '../../repository/open-backup.ts';
import type { Repository } from '../../repository/repository.ts';
import type { JobEnvironment } from './job-environment.ts';
import { findReplaced } from './replaced-backup.ts';

/** Throws CHAIN_CORRUPT for a backup that is good and not the one that was taken. */
export async function openKnown(repository: Repository, backup: BackupJob, { path }: KnownChain): Promise<OpenedBackup> {
  const opened = await repository.openBackup({ vmContextId: backup.vm_context_id, diskId: backup.disk_id }, backup.id, path);
  const replaced = findReplaced(backup, opened.sidecar.content_root);
  if (!replaced) return opened;
  await opened.close();
  throw replaced;
}

/** All backups that are read, as far as the catalog knows them: those of the chain that are not younger. */
export async function findKnownChain({ catalog }: JobEnvironment, backup: BackupJob): Promise<KnownChain> {
  const chainIds = backup.chain_id === null ? {} : { chainIds: [backup.chain_id] };
  const filter = { vmContextId: backup.vm_context_id, diskId: backup.disk_id, repositoryId: backup.repository_id, ...chainIds };
  const rows = await selectBackupJobs(catalog, { ...filter, statuses: ['completed'] });
  const ids = [...new Set([backup.id, ...rows.map((row) => row.id).filter((id) => id < backup.id)])];
  return { ids, path: pathToFull(backup, rows) };
}

export interface KnownChain {
  readonly ids: readonly string[];
  /** Only those that the backup stands on, itself first. */
  readonly path: readonly string[];
}

function pathToFull(backup: BackupJob, rows: readonly BackupJob[]): readonly string[] {
  const parents = new Map(rows.map((row) => [row.id, row.parent_backup_id]));
  const path = new Set([backup.id]);
  for (let id = backup.parent_backup_id; id !== null && !path.has(id); id = parents.get(id) ?? null) path.add(id);
  return [...path];
}
