// The wishes that pushed disks are complete.
// Released steps are history: they are never changed.

import type { Step } from './portability.ts';

export const PUSH_STEPS: readonly Step[] = [
  (is) =>
    is.table('push_completions', {
      columns: [is.varchar('job_id', 64, { primaryKey: true }), is.varchar('change_id', 191, { null: true }), is.instant('requested_at')],
      references: [{ column: 'job_id', table: 'job_tracking', key: 'id', onDelete: 'cascade' }],
    }),
];
