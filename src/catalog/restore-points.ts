// Restore points as the catalog knows them: the backups of all disks of a VM that one run made.

import { BACKUP_JOBS } from './backup-jobs.ts';
import type { Catalog } from './catalog.ts';
import { nullable, text } from './column.ts';
import { sql } from './sql.ts';
import { query } from './table.ts';

export interface RestorePoint {
  readonly restore_point_id: string;
  /** When the last of its completed backups was. */
  readonly completed_at: string;
}

/** Those with completed backups, all of which were completed at `at` (an instant), the newest first. */
export async function listRestorePoints(
  catalog: Catalog,
  vmContextId: string,
  at: string,
  limit: number,
): Promise<readonly RestorePoint[]> {
  const { completed_at } = BACKUP_JOBS.columns;
  const latest = completed_at.encode(at, 'completed_at', catalog.dialect);
  const rows = await query(
    catalog,
    { restore_point_id: nullable(text(64)), completed_at },
    sql`select restore_point_id, max(completed_at) as completed_at from backup_jobs
      where vm_context_id = ${vmContextId} and status = 'completed' and restore_point_id is not null
      group by restore_point_id having max(completed_at) <= ${latest}
      order by 2 desc, 1 desc limit ${limit}`,
  );
  return rows.flatMap(({ restore_point_id: id, completed_at: completed }) =>
    id === null || completed === null ? [] : [{ restore_point_id: id, completed_at: completed }],
  );
}
