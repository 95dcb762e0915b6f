// The table of copies: backups that rest in another repository too.
// It must not make a copy; rows say what is known of one.

import type { Catalog } from './catalog.ts';
import { instant, integer, longText, nullable, oneOf, text } from './column.ts';
import { sql } from './sql.ts';
import { defineTable, insert, selectOne, type TableRow, update } from './table.ts';

export const BACKUP_COPIES = defineTable('backup_copies', {
  id: text(64),
  source_backup_id: text(64),
  repository_id: text(64),
  copy_rule_id: nullable(text(64)),
  status: oneOf(['pending', 'copying', 'verifying', 'completed', 'failed', 'cancelled']),
  file_path: text(512),
  size_bytes: integer,
  bytes_copied: integer,
  copy_started_at: nullable(instant),
  copy_completed_at: nullable(instant),
  verified_at: nullable(instant),
  verification_status: oneOf(['pending', 'passed', 'failed']),
  error_message: nullable(longText),
  attempts: integer,
  created_at: instant,
});

export type BackupCopy = TableRow<typeof BACKUP_COPIES>;

export function findBackupCopy(catalog: Catalog, backupId: string, repositoryId: string): Promise<BackupCopy | undefined> {
  return selectOne(catalog, BACKUP_COPIES, sql`where source_backup_id = ${backupId} and repository_id = ${repositoryId}`);
}

export function findBackupCopyById(catalog: Catalog, id: string): Promise<BackupCopy | undefined> {
  return selectOne(catalog, BACKUP_COPIES, sql`where id = ${id}`);
}

export function insertBackupCopy(
  catalog: Catalog,
  copy: Pick<BackupCopy, 'id' | 'source_backup_id' | 'repository_id' | 'file_path'> & Partial<BackupCopy>,
): Promise<void> {
  return insert(catalog, BACKUP_COPIES, copy);
}

export async function updateBackupCopy(catalog: Catalog, id: string, set: Partial<BackupCopy>): Promise<void> {
  await update(catalog, BACKUP_COPIES, set, sql`id = ${id}`);
}
