// Which backups a repository holds by the catalog's word: those whose row names it, and copies of others.
// It must not write either table.

import { BACKUP_JOBS, type BackupJob } from './backup-jobs.ts';
import type { Catalog } from './catalog.ts';
import { integer, text } from './column.ts';
import { sql } from './sql.ts';
import { columnList, query } from './table.ts';

interface Place {
  readonly vmContextId: string;
  readonly diskId: number;
}

const PLACE = { vm_context_id: text(191), disk_id: integer };

/** The disks of which the catalog says that this repository holds completed backups, or copies. */
export async function listCopiedDisks(catalog: Catalog, repositoryId: string): Promise<readonly Place[]> {
  const rows = await query(
    catalog,
    PLACE,
    sql`select distinct vm_context_id, disk_id from backup_jobs where repository_id = ${repositoryId} and status = 'completed'
      union select distinct j.vm_context_id, j.disk_id from backup_copies c join backup_jobs j on j.id = c.source_backup_id
      where c.repository_id = ${repositoryId} and c.status = 'completed'`,
  );
  return rows.map((row) => ({ vmContextId: row.vm_context_id, diskId: row.disk_id }));
}

/** Ids of the completed copies that rest in this repository, of one disk. */
export async function listCopiedBackups(catalog: Catalog, repositoryId: string, place: Place): Promise<ReadonlySet<string>> {
  const rows = await query(
    catalog,
    { id: text(64) },
    sql`select j.id from backup_copies c join backup_jobs j on j.id = c.source_backup_id
      where c.repository_id = ${repositoryId} and c.status = 'completed'
      and j.vm_context_id = ${place.vmContextId} and j.disk_id = ${place.diskId}`,
  );
  return new Set(rows.map((row) => row.id));
}

/** A completed copy, and the backup that it is one of. */
export interface CopiedBackup {
  readonly copyId: string;
  readonly backup: BackupJob;
}

/** The completed copies that rest in this repository, with what the catalog knows of their backups. */
export async function selectCopiedBackups(catalog: Catalog, repositoryId: string): Promise<readonly CopiedBackup[]> {
  const rows = await query(
    catalog,
    { ...BACKUP_JOBS.columns, copy_id: text(64) },
    sql`select ${columnList(BACKUP_JOBS, 'j.')}, c.id as copy_id from backup_copies c join backup_jobs j on j.id = c.source_backup_id
      where c.repository_id = ${repositoryId} and c.status = 'completed'`,
  );
  return rows.map(({ copy_id: copyId, ...backup }) => ({ copyId, backup }));
}
