// The sign of life of running jobs, apart from the jobs: it is written every few seconds, and read by whoever may think the job dead.
// Released steps are history: they are never changed.

import type { Step } from './portability.ts';

export const HEARTBEAT_STEPS: readonly Step[] = [
  (is) =>
    is.table('job_heartbeats', {
      columns: [
        is.varchar('job_id', 64, { primaryKey: true }),
        is.instant('beat_at'),
        is.instant('cancel_requested_at', { null: true }),
        is.longText('cancel_reason', { null: true }),
      ],
      references: [{ column: 'job_id', table: 'job_tracking', key: 'id', onDelete: 'cascade' }],
    }),
];
