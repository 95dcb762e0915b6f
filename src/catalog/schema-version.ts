// The version of the tables and the lock under which they change, on both databases.
// It must not load the migrations: this is read at every start.

import { ChainkeepError } from '../plumbing/errors.ts';
import type { Catalog } from './catalog.ts';
import { literal, sql } from './sql.ts';

/** The number of migration steps; a test compares it with their list. */
export const SCHEMA_VERSION = 71;

/** "CKPT" in the header of the file: `file` and we can tell our databases from those of others. */
const APPLICATION_ID = 0x43_4b_50_54;

const OWN_TABLE =
  'create table if not exists chainkeep_schema (id int primary key, version int not null) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin';
const OWN_TABLES = 'information_schema.tables where table_schema = database()';

/** 0 for an empty database. */
export async function readSchemaVersion(catalog: Catalog): Promise<number> {
  if (catalog.dialect === 'sqlite') return readNumber(catalog, 'pragma user_version');
  const known = await readNumber(catalog, `select count(*) from ${OWN_TABLES} and table_name = 'chainkeep_schema'`);
  return known === 0 ? 0 : readNumber(catalog, 'select coalesce(max(version), 0) from chainkeep_schema');
}

export async function writeSchemaVersion(catalog: Catalog, version: number): Promise<void> {
  if (catalog.dialect === 'sqlite') {
    await catalog.run(literal(`pragma user_version = ${version}`));
    await catalog.run(literal(`pragma application_id = ${APPLICATION_ID}`));
  } else {
    await catalog.run(literal(OWN_TABLE));
    await catalog.run(sql`replace into chainkeep_schema (id, version) values (1, ${version})`);
  }
}

/**
 * Runs `work` while no other process migrates. On SQLite it is one transaction, so a kill in the middle leaves the old schema;
 * on MariaDB each statement commits by itself and the steps can be repeated.
 */
export function withMigrationLock(catalog: Catalog, work: (catalog: Catalog) => Promise<void>): Promise<void> {
  return catalog.transaction(async (locked) => {
    if (!(await isOurs(locked))) {
      throw new ChainkeepError('CATALOG_FAILED', 'the database holds tables of another program', {
        advice: 'give a new database, or one of Chainkeep, with --database',
      });
    }
    // The mark comes before the first table: killed between the two, the database would be taken for that of another program.
    if (locked.dialect === 'mariadb') await writeSchemaVersion(locked, await readSchemaVersion(locked));
    await work(locked);
  });
}

/** Empty, or with our mark. */
async function isOurs(catalog: Catalog): Promise<boolean> {
  if (catalog.dialect === 'mariadb') {
    const [all, marks] = [`select count(*) from ${OWN_TABLES}`, `select count(*) from ${OWN_TABLES} and table_name = 'chainkeep_schema'`];
    return (await readNumber(catalog, all)) === 0 || (await readNumber(catalog, marks)) === 1;
  }
  const tables = await readNumber(catalog, "select count(*) from sqlite_schema where name not like 'sqlite_%'");
  return tables === 0 || (await readNumber(catalog, 'pragma application_id')) === APPLICATION_ID;
}

async function readNumber(catalog: Catalog, statement: string): Promise<number> {
  const row = (await catalog.all(literal(statement)))[0];
  return Number(row && Object.values(row)[0]);
}
