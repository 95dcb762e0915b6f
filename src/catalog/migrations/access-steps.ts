// Tables of the server: who may do what, what was done, and how full the repositories were.
// Released steps are history: they are never changed.

import type { Step } from './portability.ts';

export const ACCESS_STEPS: readonly Step[] = [
  (is) =>
    is.table('users', {
      columns: [
        is.varchar('id', 64, { primaryKey: true }),
        is.varchar('name', 255),
        is.varchar('password_hash', 255, { null: true }),
        is.oneOf('role', ['viewer', 'operator', 'admin'], { default: 'viewer' }),
        is.boolean('enabled', { default: true }),
        is.instant('last_login_at', { null: true }),
        is.createdAt(),
        is.updatedAt(),
      ],
      unique: { unique_user_name: ['name'] },
    }),
  (is) => is.followUpdates('users', 'id'),
  (is) =>
    is.table('sessions', {
      columns: [
        is.varchar('id', 64, { primaryKey: true }),
        is.varchar('user_id', 64),
        // Who reads the database must not be able to go on with somebody's session.
        is.varchar('token_hash', 128),
        is.createdAt(),
        is.instant('last_used_at'),
        is.instant('expires_at'),
      ],
      unique: { unique_session_token: ['token_hash'] },
      references: [{ column: 'user_id', table: 'users', key: 'id', onDelete: 'cascade' }],
    }),
  (is) => is.index('idx_sessions_user', 'sessions', ['user_id']),
  (is) => is.index('idx_sessions_expires', 'sessions', ['expires_at']),
  (is) =>
    is.table('api_tokens', {
      columns: [
        is.varchar('id', 64, { primaryKey: true }),
        is.varchar('user_id', 64),
        is.varchar('name', 255),
        is.varchar('token_hash', 128),
        is.oneOf('role', ['viewer', 'operator', 'admin'], { default: 'viewer' }),
        is.createdAt(),
        is.instant('last_used_at', { null: true }),
        is.instant('expires_at', { null: true }),
        is.instant('revoked_at', { null: true }),
      ],
      unique: { unique_api_token: ['token_hash'] },
      references: [{ column: 'user_id', table: 'users', key: 'id', onDelete: 'cascade' }],
    }),
  (is) => is.index('idx_api_tokens_user', 'api_tokens', ['user_id']),
  (is) =>
    is.table('audit_log', {
      columns: [
        is.serial('id'),
        is.instant('at'),
        // Names, not references: what somebody did stays told when he is gone.
        is.varchar('actor', 255),
        is.varchar('action', 64),
        is.varchar('target', 255, { null: true }),
        is.json('details', { null: true }),
        // Each line is hashed with the one before it, so that none can be taken out or changed unseen.
        is.varchar('previous_hash', 128),
        is.varchar('hash', 128),
      ],
    }),
  (is) => is.index('idx_audit_at', 'audit_log', ['at']),
  (is) => is.index('idx_audit_actor', 'audit_log', ['actor', 'at']),
  (is) =>
    is.table('storage_samples', {
      columns: [
        is.serial('id'),
        is.varchar('repository_id', 64),
        is.instant('sampled_at'),
        is.bytes('total_bytes'),
        is.bytes('used_bytes'),
        is.bytes('available_bytes'),
      ],
      references: [{ column: 'repository_id', table: 'backup_repositories', key: 'id', onDelete: 'cascade' }],
    }),
  (is) => is.index('idx_samples_repository', 'storage_samples', ['repository_id', 'sampled_at']),
];
