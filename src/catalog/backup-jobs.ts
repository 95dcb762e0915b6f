// The table of backups: one row per backup of one disk, an index of what the repositories hold.
// It must not decide what is a valid backup: the sidecar in the repository does.

import { ChainkeepError } from '../plumbing/errors.ts';
import type { Catalog, Sql } from './catalog.ts';
import { boolean, instant, integer, longText, nullable, oneOf, text } from './column.ts';
import { list, sql, where } from './sql.ts';
import { count, defineTable, insert, query, select, selectOne, type TableRow, update } from './table.ts';

export const BACKUP_JOBS = defineTable('backup_jobs', {
  id: text(64),
  vm_context_id: text(191),
  vm_name: text(255),
  disk_id: integer,
  repository_id: text(64),
  policy_id: nullable(text(64)),
  backup_type: oneOf(['full', 'incremental', 'differential']),
  status: oneOf(['pending', 'running', 'completed', 'failed', 'cancelled']),
  repository_path: text(512),
  parent_backup_id: nullable(text(64)),
  change_id: nullable(text(191)),
  bytes_transferred: integer,
  total_bytes: integer,
  size_bytes: integer,
  compression_enabled: boolean,
  error_message: nullable(longText),
  restore_point_id: nullable(text(64)),
  chain_id: nullable(text(64)),
  digest_root: nullable(text(128)),
  content_root: nullable(text(128)),
  protected_until: nullable(instant),
  verified_at: nullable(instant),
  verification_status: oneOf(['never', 'passed', 'failed']),
  created_at: instant,
  started_at: nullable(instant),
  completed_at: nullable(instant),
});

export type BackupJob = TableRow<typeof BACKUP_JOBS>;
export type BackupStatus = BackupJob['status'];

export type NewBackupJob = Pick<
  BackupJob,
  'id' | 'vm_context_id' | 'vm_name' | 'disk_id' | 'repository_id' | 'backup_type' | 'repository_path' | 'created_at'
> &
  Partial<BackupJob>;

export interface BackupFilter {
  readonly vmContextId?: string;
  readonly diskId?: number;
  readonly repositoryId?: string;
  readonly chainIds?: readonly string[];
  readonly restorePointId?: string;
  readonly statuses?: readonly BackupStatus[];
}

/** A backup that has begun; `completeBackup` ends it well. */
export function insertBackupJob(catalog: Catalog, backup: NewBackupJob): Promise<void> {
  return insert(catalog, BACKUP_JOBS, backup);
}

/** Not for `status = completed`: that moves the chain too, see complete-backup.ts. */
export async function updateBackupJob(catalog: Catalog, id: string, set: Partial<BackupJob>): Promise<void> {
  await update(catalog, BACKUP_JOBS, set, sql`id = ${id}`);
}

/** The exact id. */
export function findBackupJob(catalog: Catalog, id: string): Promise<BackupJob | undefined> {
  return selectOne(catalog, BACKUP_JOBS, sql`where id = ${id}`);
}

/** Those that are there, whatever their repository and status. */
export async function findBackupJobs(catalog: Catalog, ids: readonly string[]): Promise<readonly BackupJob[]> {
  return ids.length === 0 ? [] : select(catalog, BACKUP_JOBS, sql`where id in ${list(ids)}`);
}

/** The disks of which the catalog has backups in this repository, whatever their status. */
export function listDisks(catalog: Catalog, repositoryId: string): Promise<readonly Pick<BackupJob, 'vm_context_id' | 'disk_id'>[]> {
  const { vm_context_id, disk_id } = BACKUP_JOBS.columns;
  return query(
    catalog,
    { vm_context_id, disk_id },
    sql`select distinct vm_context_id, disk_id from backup_jobs where repository_id = ${repositoryId} order by vm_context_id, disk_id`,
  );
}

/** The newest completed backup of any disk of a VM, in any repository. */
export function newestBackupOf(catalog: Catalog, vmContextId: string): Promise<BackupJob | undefined> {
  return selectOne(catalog, BACKUP_JOBS, sql`where vm_context_id = ${vmContextId} and status = 'completed' order by id desc`);
}

/**
 * By id or by an unambiguous beginning of one, within `filter`.
 * Throws BACKUP_NOT_FOUND, and BACKUP_AMBIGUOUS with the ids (at most five) that fit.
 */
export async function resolveBackupJob(catalog: Catalog, beginning: string, filter: BackupFilter = {}): Promise<BackupJob> {
  // Ids are made of characters below "~", so this range is "starts with", and uses the key.
  const range = sql`j.id >= ${beginning} and j.id < ${`${beginning}~`}`;
  const found = beginning === '' ? [] : await select(catalog, ALIASED, sql`${where([range, ...conditions(filter)])} order by j.id limit 6`);
  const exact = found.find((backup) => backup.id === beginning);
  if (exact) return exact;
  const [only, second] = found;
  if (only && !second) return only;
  if (!only) {
    throw new ChainkeepError('BACKUP_NOT_FOUND', `no backup has the id "${beginning}"`, {
      advice: 'see what there is with: chainkeep list',
      context: { backup_id: beginning },
    });
  }
  const ids = found.slice(0, 5).map((backup) => backup.id);
  throw new ChainkeepError(
    'BACKUP_AMBIGUOUS',
    `several backup ids begin with "${beginning}": ${ids.join(', ')}${found.length > 5 ? ', …' : ''}`,
    {
      advice: 'give more characters of the id',
      context: { backup_id: beginning, candidates: ids },
    },
  );
}

/** The newest first. */
export function selectBackupJobs(catalog: Catalog, filter: BackupFilter, limit?: number): Promise<readonly BackupJob[]> {
  const rest = sql`${where(conditions(filter))} order by j.created_at desc, j.id desc`;
  return select(catalog, ALIASED, limit === undefined ? rest : sql`${rest} limit ${limit}`);
}

export function countBackupJobs(catalog: Catalog, filter: BackupFilter): Promise<number> {
  return count(catalog, ALIASED, where(conditions(filter)));
}

/** Ids of the backups whose parent this is, the oldest first; those that failed or were cancelled need nobody. */
export async function listDependents(catalog: Catalog, id: string): Promise<readonly string[]> {
  const rows = await catalog.all(
    sql`select id from backup_jobs where parent_backup_id = ${id} and status not in ('failed', 'cancelled') order by id`,
  );
  return rows.map((row) => String(row.id));
}

/** For a query in which backup_jobs is called `j`. */
export function conditions(filter: BackupFilter): readonly (Sql | undefined)[] {
  return [
    filter.vmContextId === undefined ? undefined : sql`j.vm_context_id = ${filter.vmContextId}`,
    filter.diskId === undefined ? undefined : sql`j.disk_id = ${filter.diskId}`,
    filter.repositoryId === undefined ? undefined : sql`j.repository_id = ${filter.repositoryId}`,
    filter.restorePointId === undefined ? undefined : sql`j.restore_point_id = ${filter.restorePointId}`,
    filter.chainIds === undefined ? undefined : sql`j.chain_id in ${list(filter.chainIds)}`,
    filter.statuses === undefined ? undefined : sql`j.status in ${list(filter.statuses)}`,
  ];
}

const ALIASED = { ...BACKUP_JOBS, name: 'backup_jobs j' };
