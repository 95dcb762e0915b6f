// What the catalog knows of lock dates: an index of the lock files in the repositories, and the memory of those that somebody took away.
// It must not shorten a date.

import { BACKUP_JOBS } from './backup-jobs.ts';
import type { Catalog, SqlValue } from './catalog.ts';
import { integer } from './column.ts';
import { sql } from './sql.ts';
import { query, update } from './table.ts';

const { protected_until } = BACKUP_JOBS.columns;

/** Backup id → date, as an instant. Dates that are later already stay. */
export function raiseProtectedUntil(catalog: Catalog, dates: ReadonlyMap<string, string>): Promise<void> {
  if (dates.size === 0) return Promise.resolve();
  return catalog.transaction(async (unit) => {
    for (const [id, until] of dates) {
      const at = encode(unit, until);
      await update(unit, BACKUP_JOBS, { protected_until: until }, sql`id = ${id} and (protected_until is null or protected_until < ${at})`);
    }
  });
}

/** Backups of a repository whose date is not over at `now` (an instant; undefined: all that have one), and the latest date. */
export async function countProtected(
  catalog: Catalog,
  repositoryId: string,
  now: string | undefined,
): Promise<{ readonly count: number; readonly latest: string | null }> {
  const later = now === undefined ? sql`` : sql` and protected_until > ${encode(catalog, now)}`;
  const columns = { n: integer, latest: protected_until };
  const [found] = await query(
    catalog,
    columns,
    sql`select count(*) as n, max(protected_until) as latest from backup_jobs
      where repository_id = ${repositoryId} and protected_until is not null${later}`,
  );
  return { count: found?.n ?? 0, latest: found?.latest ?? null };
}

function encode({ dialect }: Catalog, instant: string): SqlValue {
  return protected_until.encode(instant, 'protected_until', dialect);
}
