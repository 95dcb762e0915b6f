// First tables: the job log.
// Released steps are history: they are never changed.

import type { Step } from './portability.ts';

export const JOB_LOG_STEPS: readonly Step[] = [
  (is) =>
    is.table('job_tracking', {
      columns: [
        is.varchar('id', 64, { primaryKey: true }),
        is.varchar('parent_job_id', 64, { null: true }),
        is.varchar('job_type', 64),
        is.varchar('operation', 191),
        is.oneOf('status', ['pending', 'running', 'completed', 'failed', 'cancelled'], { default: 'pending' }),
        is.json('owner', { null: true }),
        is.varchar('context_id', 191, { null: true }),
        is.varchar('external_job_id', 191, { null: true }),
        is.json('metadata', { null: true }),
        is.int('percent_complete', { default: 0 }),
        is.longText('error_message', { null: true }),
        is.createdAt(),
        is.instant('started_at', { null: true }),
        is.instant('completed_at', { null: true }),
        is.instant('canceled_at', { null: true }),
        is.updatedAt(),
      ],
      references: [{ column: 'parent_job_id', table: 'job_tracking', key: 'id', onDelete: 'set null' }],
    }),
  (is) => is.index('idx_jobs_status', 'job_tracking', ['status', 'created_at']),
  (is) => is.index('idx_jobs_created', 'job_tracking', ['created_at']),
  (is) => is.index('idx_jobs_parent', 'job_tracking', ['parent_job_id']),
  (is) => is.index('idx_jobs_context', 'job_tracking', ['context_id']),
  (is) => is.index('idx_jobs_external', 'job_tracking', ['external_job_id']),
  (is) => is.followUpdates('job_tracking', 'id'),
  (is) =>
    is.table('job_steps', {
      columns: [
        is.varchar('id', 64, { primaryKey: true }),
        is.varchar('job_id', 64),
        is.int('seq'),
        is.varchar('name', 191),
        is.oneOf('status', ['running', 'completed', 'failed', 'skipped'], { default: 'running' }),
        is.instant('started_at'),
        is.instant('completed_at', { null: true }),
        is.longText('error_message', { null: true }),
        is.json('metadata', { null: true }),
      ],
      unique: { unique_job_seq: ['job_id', 'seq'] },
      references: [{ column: 'job_id', table: 'job_tracking', key: 'id', onDelete: 'cascade' }],
    }),
  (is) =>
    is.table('log_events', {
      columns: [
        is.serial('id'),
        is.varchar('job_id', 64),
        is.varchar('step_id', 64, { null: true }),
        is.oneOf('level', ['debug', 'info', 'warn', 'error']),
        is.longText('message'),
        is.json('attrs', { null: true }),
        is.instant('ts'),
      ],
      references: [
        { column: 'job_id', table: 'job_tracking', key: 'id', onDelete: 'cascade' },
        { column: 'step_id', table: 'job_steps', key: 'id', onDelete: 'set null' },
      ],
    }),
  (is) => is.index('idx_log_events_job', 'log_events', ['job_id', 'ts']),
  (is) => is.index('idx_log_events_step', 'log_events', ['step_id']),
];
