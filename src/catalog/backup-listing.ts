// The listing of backups as people and scripts see it: with the VM's present name and the repository's name.
// It must stay lean: `list` reads ten thousand of these.

import { BACKUP_JOBS, type BackupFilter, type BackupJob, conditions } from './backup-jobs.ts';
import { PROBLEM } from './backup-marks.ts';
import type { Catalog, Sql } from './catalog.ts';
import { nullable, oneOf, text } from './column.ts';
import { sql, where } from './sql.ts';
import { query, type RowOf } from './table.ts';

const { vm_context_id, disk_id, backup_type, status, parent_backup_id, size_bytes, total_bytes, chain_id, created_at, completed_at } =
  BACKUP_JOBS.columns;

const LISTING = {
  backup_id: text(64),
  vm_name: text(255),
  vm_context_id,
  disk_id,
  backup_type,
  status,
  parent_backup_id,
  repository: text(255),
  size_bytes,
  total_bytes,
  created_at,
  completed_at,
  /** Of a completed backup: what is known to be wrong with it. */
  problem: nullable(oneOf(['missing', 'damaged'])),
};

const MEMBER = { ...LISTING, chain_id };

export type BackupListing = Told<RowOf<typeof LISTING>>;

/** Only a backup with a problem has the field. */
type Told<Row extends { readonly problem: unknown }> = Omit<Row, 'problem'> & { readonly problem?: NonNullable<Row['problem']> };

/** A part of a listing. A million rows are not counted up to the page: it begins behind a backup that is known. */
export interface Page {
  /** At most so many rows; default: all. */
  readonly limit?: number;
  /** Only what stands behind this backup in the listing, which need not be in it. */
  readonly after?: Pick<BackupJob, 'id' | 'created_at'>;
}

/** The newest first. */
export async function listBackups(catalog: Catalog, filter: BackupFilter, page: Page = {}): Promise<readonly BackupListing[]> {
  return (await query(catalog, LISTING, listing(catalog, filter, sql``, page))).map(told);
}

/** The same with the chain that each belongs to. */
export async function listChainMembers(catalog: Catalog, filter: BackupFilter): Promise<readonly Told<RowOf<typeof MEMBER>>[]> {
  return (await query(catalog, MEMBER, listing(catalog, filter, sql`, j.chain_id`, {}))).map(told);
}

function told<Row extends { readonly problem: 'missing' | 'damaged' | null }>({ problem, ...row }: Row): Told<Row> {
  return problem === null ? row : { ...row, problem };
}

function listing(catalog: Catalog, filter: BackupFilter, more: Sql, { limit, after }: Page): Sql {
  // Left joins keep backup_jobs, whose index has the order, as the outer loop; the foreign keys see to it that nothing is missing.
  return sql`select j.id as backup_id, c.vm_name, j.vm_context_id, j.disk_id, j.backup_type, j.status, j.parent_backup_id,
      r.name as repository, j.size_bytes, j.total_bytes, j.created_at, j.completed_at,
      ${PROBLEM} as problem${more}
    from backup_jobs j
    left join vm_replication_contexts c on c.context_id = j.vm_context_id
    left join backup_repositories r on r.id = j.repository_id
    ${where([...conditions(filter), after && behind(catalog, after)])}
    order by j.created_at desc, j.id desc ${limit === undefined ? sql`` : sql`limit ${limit}`}`;
}

/** The first half is what an index can use on both databases; a comparison of pairs is none for MariaDB. */
function behind({ dialect }: Catalog, { id, created_at }: Pick<BackupJob, 'id' | 'created_at'>): Sql {
  const at = BACKUP_JOBS.columns.created_at.encode(created_at, 'created_at', dialect);
  return sql`j.created_at <= ${at} and (j.created_at < ${at} or j.id < ${id})`;
}
