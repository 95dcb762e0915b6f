// The table of readers: which jobs read which backups, so that nothing is taken away under them.
// It must not judge whether an owner is alive: control/reading.ts does.

import { isoTime, newId } from '../plumbing/clock.ts';
import type { Catalog } from './catalog.ts';
import { instant, nullable, text } from './column.ts';
import { type Owner, ownerColumn } from './owner-fields.ts';
import { list, sql } from './sql.ts';
import { defineTable, insert, query, remove, select, type TableRow, update } from './table.ts';

export const READERS = defineTable('readers', {
  id: text(64),
  backup_id: text(64),
  repository_id: text(64),
  job_id: nullable(text(64)),
  owner: ownerColumn,
  acquired_at: instant,
  expires_at: instant,
});

export type Reader = TableRow<typeof READERS>;

export interface NewReaders {
  readonly repositoryId: string;
  /** Those that the catalog does not know are left out. */
  readonly backupIds: readonly string[];
  readonly jobId: string;
  readonly owner: Owner;
  /** Milliseconds from now, unless renewed. */
  readonly expiry: number;
}

/** Answers the ids of the new rows. */
export function addReaders(catalog: Catalog, { repositoryId, backupIds, jobId, owner, expiry }: NewReaders): Promise<readonly string[]> {
  const now = catalog.clock.now();
  const common = { repository_id: repositoryId, job_id: jobId, owner, acquired_at: isoTime(now), expires_at: isoTime(now + expiry) };
  return catalog.transaction(async (unit) => {
    const ids: string[] = [];
    for (const { id: backup_id } of await query(unit, { id: text(64) }, sql`select id from backup_jobs where id in ${list(backupIds)}`)) {
      const id = newId(unit.clock);
      await insert(unit, READERS, { ...common, id, backup_id });
      ids.push(id);
    }
    return ids;
  });
}

export async function renewReaders(catalog: Catalog, ids: readonly string[], expiry: number): Promise<void> {
  await update(catalog, READERS, { expires_at: isoTime(catalog.clock.now() + expiry) }, sql`id in ${list(ids)}`, { durable: false });
}

export async function removeReaders(catalog: Catalog, ids: readonly string[]): Promise<void> {
  await remove(catalog, READERS, sql`id in ${list(ids)}`);
}

/** What a job of a dead process was reading. */
export async function removeReadersOfJob(catalog: Catalog, jobId: string): Promise<void> {
  await remove(catalog, READERS, sql`job_id = ${jobId}`);
}

export function listReaders(catalog: Catalog, backupId: string): Promise<readonly Reader[]> {
  return select(catalog, READERS, sql`where backup_id = ${backupId} order by acquired_at`);
}
