// First tables: what is configured (repositories, policies, copy rules, protected VMs, settings).
// Released steps are history: they are never changed.

import type { Step } from './portability.ts';

export const CONFIGURATION_STEPS: readonly Step[] = [
  (is) =>
    is.table('backup_repositories', {
      columns: [
        is.varchar('id', 64, { primaryKey: true }),
        is.varchar('name', 255),
        is.oneOf('repository_type', ['local', 'nfs', 'cifs', 'smb', 's3', 'azure']),
        is.boolean('enabled', { default: true }),
        is.json('config'),
        is.boolean('is_immutable', { default: false }),
        is.json('immutable_config', { null: true }),
        is.int('min_retention_days', { default: 0 }),
        is.bytes('total_size_bytes', { default: 0 }),
        is.bytes('used_size_bytes', { default: 0 }),
        is.bytes('available_size_bytes', { default: 0 }),
        is.instant('last_check_at', { null: true }),
        is.oneOf('health', ['healthy', 'warning', 'offline', 'unknown'], { default: 'unknown' }),
        is.createdAt(),
        is.updatedAt(),
      ],
      unique: { unique_name: ['name'] },
    }),
  (is) => is.index('idx_type', 'backup_repositories', ['repository_type']),
  (is) => is.index('idx_enabled', 'backup_repositories', ['enabled']),
  (is) => is.index('idx_immutable', 'backup_repositories', ['is_immutable']),
  (is) => is.followUpdates('backup_repositories', 'id'),
  (is) =>
    is.table('backup_policies', {
      columns: [
        is.varchar('id', 64, { primaryKey: true }),
        is.varchar('name', 255),
        is.boolean('enabled', { default: true }),
        is.varchar('primary_repository_id', 64),
        is.int('retention_days', { default: 30 }),
        is.json('retention', { null: true }),
        is.varchar('schedule', 255, { null: true }),
        is.varchar('full_every', 64, { null: true }),
        is.createdAt(),
        is.updatedAt(),
      ],
      unique: { unique_policy_name: ['name'] },
      references: [{ column: 'primary_repository_id', table: 'backup_repositories', key: 'id', onDelete: 'restrict' }],
    }),
  (is) => is.index('idx_policies_repository', 'backup_policies', ['primary_repository_id']),
  (is) => is.followUpdates('backup_policies', 'id'),
  (is) =>
    is.table('backup_copy_rules', {
      columns: [
        is.varchar('id', 64, { primaryKey: true }),
        is.varchar('policy_id', 64),
        is.varchar('destination_repository_id', 64),
        is.oneOf('copy_mode', ['immediate', 'scheduled', 'manual'], { default: 'immediate' }),
        is.int('priority', { default: 0 }),
        is.boolean('enabled', { default: true }),
        is.boolean('verify_after_copy', { default: true }),
        is.varchar('schedule', 255, { null: true }),
        is.json('retention', { null: true }),
        is.createdAt(),
      ],
      references: [
        { column: 'policy_id', table: 'backup_policies', key: 'id', onDelete: 'cascade' },
        { column: 'destination_repository_id', table: 'backup_repositories', key: 'id', onDelete: 'restrict' },
      ],
    }),
  (is) => is.index('idx_copy_rules_policy', 'backup_copy_rules', ['policy_id']),
  (is) => is.index('idx_copy_rules_priority', 'backup_copy_rules', ['priority']),
  (is) => is.index('idx_copy_rules_destination', 'backup_copy_rules', ['destination_repository_id']),
  (is) =>
    is.table('vm_replication_contexts', {
      columns: [
        is.varchar('context_id', 191, { primaryKey: true }),
        is.varchar('external_id', 255, { null: true }),
        is.varchar('vm_name', 255),
        is.oneOf('platform', ['vmware', 'kvm', 'hyperv', 'cloudstack', 'aws', 'other'], { default: 'other' }),
        is.json('metadata', { null: true }),
        is.varchar('policy_id', 64, { null: true }),
        is.createdAt(),
        is.updatedAt(),
      ],
      references: [{ column: 'policy_id', table: 'backup_policies', key: 'id', onDelete: 'set null' }],
    }),
  (is) => is.index('idx_contexts_vm_name', 'vm_replication_contexts', ['vm_name']),
  (is) => is.index('idx_contexts_policy', 'vm_replication_contexts', ['policy_id']),
  (is) => is.followUpdates('vm_replication_contexts', 'context_id'),
  (is) =>
    is.table('settings', {
      columns: [is.varchar('name', 191, { primaryKey: true }), is.json('value'), is.createdAt(), is.updatedAt()],
    }),
  (is) => is.followUpdates('settings', 'name'),
];
