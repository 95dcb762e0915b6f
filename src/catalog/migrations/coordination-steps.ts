// First tables: who is at work on what (leases, readers, reserved space).
// Released steps are history: they are never changed.

import type { Step } from './portability.ts';

export const COORDINATION_STEPS: readonly Step[] = [
  (is) =>
    is.table('leases', {
      columns: [
        is.varchar('id', 64, { primaryKey: true }),
        is.varchar('repository_id', 64),
        is.varchar('vm_context_id', 191),
        is.int('disk_id'),
        is.varchar('job_id', 64),
        is.json('owner'),
        is.instant('acquired_at'),
        is.instant('expires_at'),
      ],
      // One writer per repository, VM and disk: this key is the lock.
      unique: { unique_lease: ['repository_id', 'vm_context_id', 'disk_id'] },
      references: [
        { column: 'repository_id', table: 'backup_repositories', key: 'id', onDelete: 'cascade' },
        { column: 'vm_context_id', table: 'vm_replication_contexts', key: 'context_id', onDelete: 'cascade' },
      ],
    }),
  (is) => is.index('idx_leases_vm_context', 'leases', ['vm_context_id']),
  (is) =>
    is.table('readers', {
      columns: [
        is.varchar('id', 64, { primaryKey: true }),
        is.varchar('backup_id', 64),
        is.varchar('repository_id', 64),
        is.varchar('job_id', 64, { null: true }),
        is.json('owner'),
        is.instant('acquired_at'),
        is.instant('expires_at'),
      ],
      references: [
        { column: 'backup_id', table: 'backup_jobs', key: 'id', onDelete: 'cascade' },
        { column: 'repository_id', table: 'backup_repositories', key: 'id', onDelete: 'cascade' },
      ],
    }),
  (is) => is.index('idx_readers_backup', 'readers', ['backup_id', 'repository_id']),
  (is) => is.index('idx_readers_repository', 'readers', ['repository_id']),
  (is) =>
    is.table('space_reservations', {
      columns: [
        is.varchar('id', 64, { primaryKey: true }),
        is.varchar('repository_id', 64),
        is.varchar('job_id', 64),
        is.bytes('bytes'),
        is.json('owner'),
        is.createdAt(),
        is.instant('expires_at'),
      ],
      references: [{ column: 'repository_id', table: 'backup_repositories', key: 'id', onDelete: 'cascade' }],
    }),
  (is) => is.index('idx_reservations_repository', 'space_reservations', ['repository_id']),
];
