// The table of holds: reasons why backups may not be deleted before they are lifted. The hold files in the repositories are what holds.
// It must not say that a hold is gone: a rescan compares it with the files.

import type { Catalog } from './catalog.ts';
import { instant, longText, nullable, text } from './column.ts';
import { list, sql } from './sql.ts';
import { defineTable, insert, remove, select, type TableRow, update } from './table.ts';

export const HOLDS = defineTable('holds', {
  id: text(64),
  backup_id: text(64),
  reason: longText,
  created_by: text(255),
  created_at: instant,
  lifted_by: nullable(text(255)),
  lifted_at: nullable(instant),
});

export type HoldRow = TableRow<typeof HOLDS>;

export async function listHolds(catalog: Catalog, backupIds: readonly string[]): Promise<readonly HoldRow[]> {
  if (backupIds.length === 0) return [];
  return select(catalog, HOLDS, sql`where backup_id in ${list(backupIds)} order by created_at, id`);
}

export function insertHold(catalog: Catalog, hold: HoldRow): Promise<void> {
  return insert(catalog, HOLDS, hold);
}

export async function updateHold(catalog: Catalog, id: string, set: Partial<HoldRow>): Promise<void> {
  await update(catalog, HOLDS, set, sql`id = ${id}`);
}

/** Only for the row that stood for a hold while its file could not be read. */
export async function removeHold(catalog: Catalog, id: string): Promise<void> {
  await remove(catalog, HOLDS, sql`id = ${id}`);
}
