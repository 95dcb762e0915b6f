// Sidecars made up for rules that look at nothing else.

import type { BackupType, Sidecar } from '../../src/repository/sidecar-fields.ts';

/** A sidecar of backup `id` on `parent`; the content root is the id's own unless said otherwise. */
export function sidecarOf(id: string, parent: Sidecar | null = null, change: Partial<Sidecar> = {}): Sidecar {
  const type: BackupType = change.backup_type ?? (parent ? 'incremental' : 'full');
  return {
    format: 1,
    backup_id: id,
    restore_point_id: `point-${id}`,
    vm_context_id: 'vm-a',
    vm_name: 'a VM',
    external_id: null,
    disk_id: 0,
    backup_type: type,
    parent_backup_id: parent?.backup_id ?? null,
    parent_content_root: parent?.content_root ?? null,
    content_root: Buffer.from(id.padEnd(32, '.')).toString('hex').slice(0, 64),
    chain_id: parent?.chain_id ?? id,
    origin_repository_id: null,
    change_id: null,
    size_bytes: 1000,
    total_bytes: parent?.total_bytes ?? 65_536,
    started_at: '2026-11-22T00:00:00.000Z',
    created_at: '2026-11-22T00:00:00.000Z',
    completed_at: '2026-11-22T00:00:01.000Z',
    bytes_read: 65_536,
    source: 'file',
    policy_id: null,
    qcow2: { virtual_size: 65_536, cluster_size: 65_536, compression: 'none', generation: 1 },
    digests: { name: `${id}.1.digests`, algorithm: 'blake3', root: '0'.repeat(64), structure: '1'.repeat(64) },
    metadata: {},
    tool: 'chainkeep/test',
    ...change,
  };
}
