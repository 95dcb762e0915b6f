// The listing of backups as people and scripts see it: with the VM's present name and the repository's name.
// It must stay lean: `list` reads ten thousand of these.

import { BACKUP_JOBS, type BackupFilter, conditions } from './backup-jobs.ts';
import type { Catalog, Sql } from './catalog.ts';
import { text } from './column.ts';
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
};

const MEMBER = { ...LISTING, chain_id };

export type BackupListing = RowOf<typeof LISTING>;

/** The newest first. */
export function listBackups(catalog: Catalog, filter: BackupFilter): Promise<readonly BackupListing[]> {
  return query(catalog, LISTING, listing(filter, sql``));
}

/** The same with the chain that each belongs to. */
export function listChainMembers(catalog: Catalog, filter: BackupFilter): Promise<readonly RowOf<typeof MEMBER>[]> {
  return query(catalog, MEMBER, listing(filter, sql`, j.chain_id`));
}

function listing(filter: BackupFilter, more: Sql): Sql {
  // Left joins keep backup_jobs, whose index has the order, as the outer loop; the foreign keys see to it that nothing is missing.
  return sql`select j.id as backup_id, c.vm_name, j.vm_context_id, j.disk_id, j.backup_type, j.status, j.parent_backup_id,
      r.name as repository, j.size_bytes, j.total_bytes, j.created_at, j.completed_at${more}
    from backup_jobs j
    left join vm_replication_contexts c on c.context_id = j.vm_context_id
    left join backup_repositories r on r.id = j.repository_id
    ${where(conditions(filter))}
    order by j.created_at desc, j.id desc`;
}
