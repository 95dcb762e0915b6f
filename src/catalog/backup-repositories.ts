// The table of repositories: what is configured where.
// It must not open a store; a secret never stands in `config` in clear.

import { ChainkeepError } from '../plumbing/errors.ts';
import type { Catalog } from './catalog.ts';
import { boolean, instant, integer, json, nullable, oneOf, text } from './column.ts';
import { constraintOf } from './database-error.ts';
import { sql } from './sql.ts';
import { count, defineTable, insert, remove, select, selectOne, type TableRow, update } from './table.ts';

export const BACKUP_REPOSITORIES = defineTable('backup_repositories', {
  id: text(64),
  name: text(255),
  repository_type: oneOf(['local', 'nfs', 'cifs', 'smb', 's3', 'azure']),
  enabled: boolean,
  config: json,
  is_immutable: boolean,
  immutable_config: nullable(json),
  min_retention_days: integer,
  total_size_bytes: integer,
  used_size_bytes: integer,
  available_size_bytes: integer,
  last_check_at: nullable(instant),
  health: oneOf(['healthy', 'warning', 'offline', 'unknown']),
  created_at: instant,
  updated_at: instant,
});

export type BackupRepository = TableRow<typeof BACKUP_REPOSITORIES>;

export type NewBackupRepository = Pick<BackupRepository, 'id' | 'name' | 'repository_type' | 'config' | 'created_at'> &
  Partial<BackupRepository>;

/** Throws REPOSITORY_EXISTS when the name or the id is taken. */
export async function insertRepository(catalog: Catalog, repository: NewBackupRepository): Promise<void> {
  try {
    await insert(catalog, BACKUP_REPOSITORIES, repository);
  } catch (error) {
    throw constraintOf(error) === 'unique' ? nameTaken(repository.name, error) : error;
  }
}

/** By name. */
export function listRepositories(catalog: Catalog): Promise<readonly BackupRepository[]> {
  return select(catalog, BACKUP_REPOSITORIES, sql`order by name`);
}

/** A name wins over the id of another repository. */
export async function findRepository(catalog: Catalog, nameOrId: string): Promise<BackupRepository | undefined> {
  const byName = await selectOne(catalog, BACKUP_REPOSITORIES, sql`where name = ${nameOrId}`);
  return byName ?? selectOne(catalog, BACKUP_REPOSITORIES, sql`where id = ${nameOrId}`);
}

/** Throws REPOSITORY_NOT_FOUND. */
export async function getRepository(catalog: Catalog, nameOrId: string): Promise<BackupRepository> {
  const repository = await findRepository(catalog, nameOrId);
  if (repository) return repository;
  throw new ChainkeepError('REPOSITORY_NOT_FOUND', `no repository is called "${nameOrId}"`, {
    advice: 'see what there is with: chainkeep repo list',
    context: { repository: nameOrId },
  });
}

/** Throws REPOSITORY_EXISTS when the new name is taken. */
export async function updateRepository(catalog: Catalog, id: string, set: Partial<BackupRepository>): Promise<void> {
  try {
    await update(catalog, BACKUP_REPOSITORIES, set, sql`id = ${id}`);
  } catch (error) {
    throw constraintOf(error) === 'unique' ? nameTaken(set.name ?? id, error) : error;
  }
}

/** Throws REPOSITORY_IN_USE while a backup, a chain, a copy or a policy needs it. */
export async function deleteRepository(catalog: Catalog, id: string): Promise<void> {
  try {
    await remove(catalog, BACKUP_REPOSITORIES, sql`id = ${id}`);
  } catch (error) {
    if (constraintOf(error) !== 'foreign key') throw error;
    const backups = await count(catalog, { name: 'backup_jobs', columns: {} }, sql`where repository_id = ${id}`);
    const what = backups > 0 ? `${backups} backup${backups === 1 ? '' : 's'}` : 'a policy or a copy';
    throw new ChainkeepError('REPOSITORY_IN_USE', `the repository still has ${what}`, {
      advice: 'delete those first, or forget them (the files stay) with: chainkeep repo remove NAME --forget',
      context: { repository_id: id, backup_count: backups },
      cause: error,
    });
  }
}

/** Completed backups, as their chains count them: to count a million rows takes a tenth of a second. */
export async function countBackupsByRepository(catalog: Catalog): Promise<ReadonlyMap<string, number>> {
  const rows = await catalog.all(sql`select repository_id, sum(total_backups) as n from backup_chains group by repository_id`);
  return new Map(rows.map((row) => [String(row.repository_id), Number(row.n)]));
}

function nameTaken(name: string, cause: unknown): ChainkeepError {
  return new ChainkeepError('REPOSITORY_EXISTS', `a repository called "${name}", or with its id, is registered already`, {
    advice: 'see what there is with: chainkeep repo list',
    context: { repository: name },
    cause,
  });
}
