// The table of holds: reasons why backups may not be deleted before they are lifted. The hold files in the repositories are what holds.
// It must not say that a hold is gone: a rescan compares it with the files.

import { ChainkeepError } from '../plumbing/errors.ts';
import type { Catalog } from './catalog.ts';
import { instant, integer, longText, nullable, text } from './column.ts';
import { list, sql, where } from './sql.ts';
import { columnList, count, defineTable, insert, query, remove, select, type TableRow, update } from './table.ts';

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

/** A hold with the backup it is about. */
export interface HoldListing extends HoldRow {
  readonly vm_name: string;
  readonly vm_context_id: string;
  readonly disk_id: number;
  readonly repository: string;
}

export interface HoldFilter {
  /** Those that were lifted too. */
  readonly all: boolean;
  readonly backupId?: string;
  readonly repositoryId?: string;
}

/** The newest first. */
export function listHeldBackups(catalog: Catalog, { all, backupId, repositoryId }: HoldFilter): Promise<readonly HoldListing[]> {
  const condition = where([
    all ? undefined : sql`h.lifted_at is null`,
    backupId === undefined ? undefined : sql`h.backup_id = ${backupId}`,
    repositoryId === undefined ? undefined : sql`j.repository_id = ${repositoryId}`,
  ]);
  const more = { vm_name: text(255), vm_context_id: text(191), disk_id: integer, repository: text(255) };
  return query(
    catalog,
    { ...HOLDS.columns, ...more },
    sql`select ${columnList(HOLDS, 'h.')}, c.vm_name, j.vm_context_id, j.disk_id, r.name as repository
      from holds h join backup_jobs j on j.id = h.backup_id
      join vm_replication_contexts c on c.context_id = j.vm_context_id join backup_repositories r on r.id = j.repository_id
      ${condition} order by h.created_at desc, h.id desc`,
  );
}

/** By id or by an unambiguous beginning of one. Throws HOLD_NOT_FOUND. */
export async function resolveHold(catalog: Catalog, beginning: string): Promise<HoldRow> {
  const range = sql`id >= ${beginning} and id < ${`${beginning}~`}`;
  const found = beginning === '' ? [] : await select(catalog, HOLDS, sql`where ${range} order by id limit 2`);
  const [only, second] = found;
  if (only && (!second || only.id === beginning)) return only;
  throw new ChainkeepError('HOLD_NOT_FOUND', only ? `several holds begin with "${beginning}"` : `no hold has the id "${beginning}"`, {
    advice: only
      ? 'give more characters of the id'
      : 'see what there is with: chainkeep hold list; what only the repository knows is entered by: chainkeep repo rescan NAME',
    context: { hold_id: beginning },
  });
}

/** Backups of a repository that are held. */
export function countHeldBackups(catalog: Catalog, repositoryId: string): Promise<number> {
  const held = sql`select h.backup_id from holds h where h.lifted_at is null`;
  return count(catalog, { name: 'backup_jobs', columns: {} }, sql`where repository_id = ${repositoryId} and id in (${held})`);
}

/** Only for the row that stood for a hold while its file could not be read. */
export async function removeHold(catalog: Catalog, id: string): Promise<void> {
  await remove(catalog, HOLDS, sql`id = ${id}`);
}
