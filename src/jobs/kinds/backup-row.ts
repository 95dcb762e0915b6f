// A sidecar as the row of the catalog: used when a backup completes and when one is recovered or found.

import type { BackupRepository } from '../../catalog/backup-repositories.ts';
import type { CompletedBackup } from '../../catalog/complete-backup.ts';
import type { Sidecar } from '../../repository/sidecar-fields.ts';

/** Nothing in it comes from elsewhere: the row of a backup that is found again is the one it had. */
export function backupRow(sidecar: Sidecar, repository: Pick<BackupRepository, 'id'>): CompletedBackup {
  return {
    id: sidecar.backup_id,
    vm_context_id: sidecar.vm_context_id,
    vm_name: sidecar.vm_name,
    disk_id: sidecar.disk_id,
    repository_id: repository.id,
    policy_id: sidecar.policy_id,
    backup_type: sidecar.backup_type,
    status: 'completed',
    repository_path: `vms/${sidecar.vm_context_id}/disk-${sidecar.disk_id}/${sidecar.backup_id}.qcow2`,
    parent_backup_id: sidecar.parent_backup_id,
    change_id: sidecar.change_id,
    bytes_transferred: sidecar.bytes_read,
    total_bytes: sidecar.total_bytes,
    size_bytes: sidecar.size_bytes,
    compression_enabled: sidecar.qcow2.compression !== 'none',
    restore_point_id: sidecar.restore_point_id,
    chain_id: sidecar.chain_id,
    digest_root: sidecar.digests.root,
    content_root: sidecar.content_root,
    created_at: sidecar.created_at,
    started_at: sidecar.started_at,
    completed_at: sidecar.completed_at,
  };
}
