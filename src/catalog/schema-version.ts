// The version of the tables and the lock under which they change, on both databases.
// It must not load the migrations: this is read at every start.

import { ChainkeepError } from '../plumbing/errors.ts';
import type { Catalog } from './catalog.ts';
import { literal, sql } from './sql.ts';

/** The number of migration steps; a test compares it with their list. */
export const SCHEMA_VERSION = 58;

/** "CKPT" in the header of the file: `file` and we can tell our databases from those of others. */
const APPLICATION_ID = 0x43_4b_50_54;

/** 0 for an empty database. */
export async function readSchemaVersion(catalog: Catalog): Promise<number> {
  if (catalog.dialect === 'sqlite') return readNumber(catalog, 'pragma user_version');
  await catalog.run(sql`create table if not exists schema_version (id int primary key, version int not null)`);
  return readNumber(catalog, 'select coalesce(max(version), 0) from schema_version');
}

export async function writeSchemaVersion(catalog: Catalog, version: number): Promise<void> {
  if (catalog.dialect === 'sqlite') {
    await catalog.run(literal(`pragma user_version = ${version}`));
    await catalog.run(literal(`pragma application_id = ${APPLICATION_ID}`));
  } else {
    await catalog.run(sql`replace into schema_version (id, version) values (1, ${version})`);
  }
}

/**
 * Runs `work` while no other process migrates. On SQLite it is one transaction, so a kill in the middle leaves the old schema;
 * on MariaDB each statement commits by itself and the steps can be repeated.
 */
export function withMigrationLock(catalog: Catalog, work: (catalog: Catalog) => Promise<void>): Promise<void> {
  return catalog.transaction(async (locked) => {
    if (locked.dialect === 'sqlite') {
      await refuseForeignDatabase(locked);
      return work(locked);
    }
    if ((await readNumber(locked, "select get_lock('chainkeep_migration', 600)")) !== 1) {
      throw new ChainkeepError('CATALOG_FAILED', 'another process has been changing the tables for ten minutes', { retryable: true });
    }
    try {
      await work(locked);
    } finally {
      await locked.all(literal("select release_lock('chainkeep_migration')"));
    }
  });
}

async function refuseForeignDatabase(catalog: Catalog): Promise<void> {
  const tables = await readNumber(catalog, "select count(*) from sqlite_schema where name not like 'sqlite_%'");
  if (tables === 0 || (await readNumber(catalog, 'pragma application_id')) === APPLICATION_ID) return;
  throw new ChainkeepError('CATALOG_FAILED', 'the database holds tables of another program', {
    advice: 'give the path of a new file, or of a Chainkeep database, with --database',
  });
}

async function readNumber(catalog: Catalog, statement: string): Promise<number> {
  const row = (await catalog.all(literal(statement)))[0];
  return Number(row && Object.values(row)[0]);
}
