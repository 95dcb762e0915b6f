// A backup whose row belongs to another repository: here lies a copy of it, which is a row of backup_copies.

import { findBackupCopy, insertBackupCopy, updateBackupCopy } from '../../catalog/backup-copies.ts';
import type { BackupRepository } from '../../catalog/backup-repositories.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { newId } from '../../plumbing/clock.ts';
import { diskFolder, imageFile } from '../../repository/layout.ts';
import type { Sidecar } from '../../repository/sidecar-fields.ts';

export async function enterCopy(
  unit: Catalog,
  sidecar: Sidecar,
  { id: repositoryId }: BackupRepository,
): Promise<'added' | 'changed' | 'nothing' | 'in progress'> {
  const place = { vmContextId: sidecar.vm_context_id, diskId: sidecar.disk_id };
  const copy = {
    status: 'completed',
    file_path: diskFolder(place) + imageFile(sidecar.backup_id),
    size_bytes: sidecar.size_bytes,
    bytes_copied: sidecar.size_bytes,
    error_message: null,
  } as const;
  const known = await findBackupCopy(unit, sidecar.backup_id, repositoryId);
  if (!known) {
    const { created_at, started_at: copy_started_at, completed_at: copy_completed_at } = sidecar;
    const ids = { id: newId(unit.clock), source_backup_id: sidecar.backup_id, repository_id: repositoryId };
    await insertBackupCopy(unit, { ...ids, ...copy, created_at, copy_started_at, copy_completed_at });
    return 'added';
  }
  if (known.status === 'copying' || known.status === 'verifying' || known.status === 'pending') return 'in progress';
  if (known.status === 'completed' && known.size_bytes === copy.size_bytes && known.file_path === copy.file_path) return 'nothing';
  await updateBackupCopy(unit, known.id, copy);
  return 'changed';
}
