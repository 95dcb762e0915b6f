// First tables: the index of backups, chains and copies, and what protects them.
// Released steps are history: they are never changed.

import type { Step } from './portability.ts';

export const BACKUP_STEPS: readonly Step[] = [
  (is) =>
    is.table('backup_jobs', {
      columns: [
        is.varchar('id', 64, { primaryKey: true }),
        is.varchar('vm_context_id', 191),
        is.varchar('vm_name', 255),
        is.int('disk_id'),
        is.varchar('repository_id', 64),
        is.varchar('policy_id', 64, { null: true }),
        is.oneOf('backup_type', ['full', 'incremental', 'differential']),
        is.oneOf('status', ['pending', 'running', 'completed', 'failed', 'cancelled'], { default: 'pending' }),
        is.varchar('repository_path', 512),
        is.varchar('parent_backup_id', 64, { null: true }),
        is.varchar('change_id', 191, { null: true }),
        is.bytes('bytes_transferred', { default: 0 }),
        is.bytes('total_bytes', { default: 0 }),
        is.bytes('size_bytes', { default: 0 }),
        is.boolean('compression_enabled', { default: true }),
        is.longText('error_message', { null: true }),
        is.varchar('restore_point_id', 64, { null: true }),
        is.varchar('chain_id', 64, { null: true }),
        is.varchar('digest_root', 128, { null: true }),
        is.varchar('content_root', 128, { null: true }),
        is.instant('protected_until', { null: true }),
        is.instant('verified_at', { null: true }),
        is.oneOf('verification_status', ['never', 'passed', 'failed'], { default: 'never' }),
        is.createdAt(),
        is.instant('started_at', { null: true }),
        is.instant('completed_at', { null: true }),
      ],
      // RESTRICT twice: deleting a VM must not delete its backups, deleting a parent must not orphan its children.
      references: [
        { column: 'vm_context_id', table: 'vm_replication_contexts', key: 'context_id', onDelete: 'restrict' },
        { column: 'repository_id', table: 'backup_repositories', key: 'id', onDelete: 'restrict' },
        { column: 'policy_id', table: 'backup_policies', key: 'id', onDelete: 'set null' },
        { column: 'parent_backup_id', table: 'backup_jobs', key: 'id', onDelete: 'restrict' },
      ],
    }),
  // The second column serves the listings, which are in the order of time.
  (is) => is.index('idx_backup_jobs_vm_context', 'backup_jobs', ['vm_context_id', 'created_at', 'id']),
  (is) => is.index('idx_backup_jobs_repository', 'backup_jobs', ['repository_id', 'created_at', 'id']),
  (is) => is.index('idx_backup_jobs_policy', 'backup_jobs', ['policy_id']),
  (is) => is.index('idx_backup_jobs_status', 'backup_jobs', ['status', 'created_at', 'id']),
  (is) => is.index('idx_backup_jobs_created', 'backup_jobs', ['created_at', 'id']),
  (is) => is.index('idx_backup_jobs_parent', 'backup_jobs', ['parent_backup_id']),
  (is) => is.index('idx_backup_jobs_chain', 'backup_jobs', ['chain_id', 'created_at', 'id']),
  (is) =>
    is.table('backup_chains', {
      columns: [
        is.varchar('id', 64, { primaryKey: true }),
        is.varchar('vm_context_id', 191),
        is.int('disk_id'),
        is.varchar('repository_id', 64),
        is.varchar('full_backup_id', 64),
        is.varchar('latest_backup_id', 64),
        is.int('total_backups', { default: 0 }),
        is.bytes('total_size_bytes', { default: 0 }),
        is.createdAt(),
        is.updatedAt(),
      ],
      unique: { unique_chain: ['vm_context_id', 'disk_id', 'repository_id', 'full_backup_id'] },
      references: [
        { column: 'vm_context_id', table: 'vm_replication_contexts', key: 'context_id', onDelete: 'restrict' },
        { column: 'repository_id', table: 'backup_repositories', key: 'id', onDelete: 'restrict' },
        { column: 'full_backup_id', table: 'backup_jobs', key: 'id', onDelete: 'restrict' },
        { column: 'latest_backup_id', table: 'backup_jobs', key: 'id', onDelete: 'restrict' },
      ],
    }),
  (is) => is.index('idx_chains_repository', 'backup_chains', ['repository_id']),
  (is) => is.index('idx_chains_full', 'backup_chains', ['full_backup_id']),
  (is) => is.index('idx_chains_latest', 'backup_chains', ['latest_backup_id']),
  (is) => is.followUpdates('backup_chains', 'id'),
  (is) =>
    is.table('backup_copies', {
      columns: [
        is.varchar('id', 64, { primaryKey: true }),
        is.varchar('source_backup_id', 64),
        is.varchar('repository_id', 64),
        is.varchar('copy_rule_id', 64, { null: true }),
        is.oneOf('status', ['pending', 'copying', 'verifying', 'completed', 'failed', 'cancelled'], { default: 'pending' }),
        is.varchar('file_path', 512),
        is.bytes('size_bytes', { default: 0 }),
        is.bytes('bytes_copied', { default: 0 }),
        is.instant('copy_started_at', { null: true }),
        is.instant('copy_completed_at', { null: true }),
        is.instant('verified_at', { null: true }),
        is.oneOf('verification_status', ['pending', 'passed', 'failed'], { default: 'pending' }),
        is.longText('error_message', { null: true }),
        is.int('attempts', { default: 0 }),
        is.createdAt(),
      ],
      unique: { unique_backup_repo: ['source_backup_id', 'repository_id'] },
      references: [
        { column: 'source_backup_id', table: 'backup_jobs', key: 'id', onDelete: 'cascade' },
        { column: 'repository_id', table: 'backup_repositories', key: 'id', onDelete: 'restrict' },
        { column: 'copy_rule_id', table: 'backup_copy_rules', key: 'id', onDelete: 'set null' },
      ],
    }),
  (is) => is.index('idx_copies_repository', 'backup_copies', ['repository_id']),
  (is) => is.index('idx_copies_rule', 'backup_copies', ['copy_rule_id']),
  (is) => is.index('idx_copies_status', 'backup_copies', ['status']),
  (is) =>
    is.table('holds', {
      columns: [
        is.varchar('id', 64, { primaryKey: true }),
        is.varchar('backup_id', 64),
        is.longText('reason'),
        is.varchar('created_by', 255),
        is.createdAt(),
        is.varchar('lifted_by', 255, { null: true }),
        is.instant('lifted_at', { null: true }),
      ],
      // The hold files in the repository are what holds; these rows are their index and go with the backup's.
      references: [{ column: 'backup_id', table: 'backup_jobs', key: 'id', onDelete: 'cascade' }],
    }),
  (is) => is.index('idx_holds_backup', 'holds', ['backup_id']),
];
