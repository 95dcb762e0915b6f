// Is the database sound in itself: its file, its rows, its chains against its backups?
// It must not look into a repository, and changes nothing.

import { setImmediate as yieldToOthers } from 'node:timers/promises';
import { BACKUP_CHAINS, type BackupChain } from './backup-chains.ts';
import { BACKUP_JOBS } from './backup-jobs.ts';
import type { Catalog, RawRow, SqlValue } from './catalog.ts';
import { integer, text } from './column.ts';
import { KNOWN_TABLES, type KnownTable } from './known-tables.ts';
import { literal, sql } from './sql.ts';
import { columnList, query, select, selectOne } from './table.ts';

export interface DatabaseFault {
  readonly code: 'FILE_DAMAGED' | 'REFERENCE_BROKEN' | 'ROW_INVALID' | 'CHAIN_DIFFERS';
  readonly table: string | null;
  /** Of the row. */
  readonly key: string | null;
  readonly message: string;
}

const ROWS_AT_ONCE = 1000;
/** SQLite names so many places of a damaged file. */
const MOST_PLACES = 100;

/** The file and its references, by the database's own means. */
export async function* checkStorage(catalog: Catalog): AsyncGenerator<DatabaseFault> {
  if (catalog.dialect === 'mariadb') {
    for (const { table } of KNOWN_TABLES) yield* checkServerTable(catalog, table.name);
    yield* checkServerReferences(catalog);
    return;
  }
  for (const row of await catalog.all(literal(`pragma integrity_check(${MOST_PLACES})`))) {
    const message = String(Object.values(row)[0]);
    if (message !== 'ok') yield { code: 'FILE_DAMAGED', table: null, key: null, message };
  }
  for (const { table, rowid, parent } of await catalog.all(literal('pragma foreign_key_check'))) {
    const message = `row ${String(rowid)} names a row of ${String(parent)} that is not there`;
    yield { code: 'REFERENCE_BROKEN', table: String(table), key: null, message };
  }
}

async function* checkServerTable(catalog: Catalog, table: string): AsyncGenerator<DatabaseFault> {
  for (const { Msg_type: type, Msg_text: message } of await catalog.all(literal(`check table ${table}`))) {
    if (type === 'error' || type === 'warning') yield { code: 'FILE_DAMAGED', table, key: null, message: String(message) };
  }
}

/** A copy is put back with the server's checks switched off; nothing looks at the references of its rows again. */
async function* checkServerReferences(catalog: Catalog): AsyncGenerator<DatabaseFault> {
  const references = await query(
    catalog,
    REFERENCE,
    sql`select table_name as child, column_name as name, referenced_table_name as parent, referenced_column_name as parent_key
      from information_schema.key_column_usage where table_schema = database() and referenced_table_name is not null
      order by table_name, column_name`,
  );
  for (const { child, name, parent, parent_key } of references) {
    const known = KNOWN_TABLES.find(({ table }) => table.name === child);
    if (!known || !KNOWN_TABLES.some(({ table }) => table.name === parent)) continue;
    const names = { child: literal(child), name: literal(`c.${name}`), parent: literal(parent), parentKey: literal(`p.${parent_key}`) };
    const broken = await catalog.all(
      sql`select ${literal(`c.${known.key}`)} as row_key from ${names.child} c left join ${names.parent} p on ${names.parentKey} = ${names.name}
        where ${names.name} is not null and ${names.parentKey} is null limit ${MOST_PLACES}`,
    );
    const message = `${name} names a row of ${parent} that is not there`;
    for (const { row_key } of broken) yield { code: 'REFERENCE_BROKEN', table: child, key: String(row_key), message };
  }
}

const REFERENCE = { child: text(64), name: text(64), parent: text(64), parent_key: text(64) };

/** Every value of every row, by the checks that it goes through when it is read. `onRows` hears how many were looked at. */
export async function* checkRows(catalog: Catalog, onRows: (rows: number) => void): AsyncGenerator<DatabaseFault> {
  for (const known of KNOWN_TABLES) {
    for await (const rows of pages(catalog, known)) {
      for (const row of rows) yield* checkRow(known, row);
      onRows(rows.length);
    }
  }
}

async function* pages(catalog: Catalog, { table, key }: KnownTable): AsyncGenerator<readonly RawRow[]> {
  const names = { columns: columnList(table), table: literal(table.name), key: literal(key) };
  let after: SqlValue | undefined;
  for (;;) {
    const behind = after === undefined ? literal('') : sql`where ${names.key} > ${after}`;
    const rows = await catalog.all(sql`select ${names.columns} from ${names.table} ${behind} order by ${names.key} limit ${ROWS_AT_ONCE}`);
    if (rows.length > 0) yield rows;
    const last = rows.at(-1)?.[key];
    if (rows.length < ROWS_AT_ONCE || (typeof last !== 'string' && typeof last !== 'number')) return;
    after = last;
    await yieldToOthers();
  }
}

function* checkRow({ table, key }: KnownTable, row: RawRow): Generator<DatabaseFault> {
  for (const [name, column] of Object.entries(table.columns)) {
    try {
      column.decode(row[name], name);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      yield { code: 'ROW_INVALID', table: table.name, key: String(row[key]), message };
    }
  }
}

/** The rows of chains say what the rows of their backups say. Whoever writes both does it in one transaction. */
export async function* checkChains(catalog: Catalog): AsyncGenerator<DatabaseFault> {
  for (let after = ''; ; ) {
    const chains = await select(catalog, BACKUP_CHAINS, sql`where id > ${after} order by id limit ${ROWS_AT_ONCE}`);
    for (const { id } of chains) yield* await catalog.transaction((unit) => checkChain(unit, id));
    after = chains.at(-1)?.id ?? after;
    if (chains.length < ROWS_AT_ONCE) break;
  }
  const lost = await query(
    catalog,
    { chain_id: text(64) },
    sql`select distinct j.chain_id from backup_jobs j left join backup_chains c on c.id = j.chain_id
      where j.chain_id is not null and j.status = 'completed' and c.id is null limit ${ROWS_AT_ONCE}`,
  );
  for (const { chain_id: id } of lost) yield* await catalog.transaction((unit) => checkChain(unit, id));
}

async function checkChain(unit: Catalog, id: string): Promise<readonly DatabaseFault[]> {
  const chain = await selectOne(unit, BACKUP_CHAINS, sql`where id = ${id}`);
  const expected = await expectedChain(unit, id);
  const differences = expected === undefined ? unexpected(chain) : compare(chain, expected);
  return differences.map((message) => ({ code: 'CHAIN_DIFFERS', table: BACKUP_CHAINS.name, key: id, message }));
}

type ChainTotals = Pick<BackupChain, 'full_backup_id' | 'latest_backup_id' | 'total_backups' | 'total_size_bytes'>;

/** Undefined where the chain has no completed full: then there must be no row. */
async function expectedChain(unit: Catalog, id: string): Promise<ChainTotals | undefined> {
  const members = sql`where chain_id = ${id} and status = 'completed'`;
  const full = await selectOne(unit, BACKUP_JOBS, sql`${members} and backup_type = 'full' order by created_at`);
  const latest = await selectOne(unit, BACKUP_JOBS, sql`${members} order by completed_at desc, id desc`);
  if (!full || !latest) return undefined;
  const totals = { total_backups: integer, total_size_bytes: integer };
  const [sums] = await query(
    unit,
    totals,
    sql`select count(*) as total_backups, sum(size_bytes) as total_size_bytes from backup_jobs ${members}`,
  );
  return sums && { full_backup_id: full.id, latest_backup_id: latest.id, ...sums };
}

function unexpected(chain: BackupChain | undefined): readonly string[] {
  return chain ? ['the chain has no completed full backup'] : [];
}

function compare(chain: BackupChain | undefined, expected: ChainTotals): readonly string[] {
  if (!chain) return [`the chain of ${expected.full_backup_id} has no row`];
  const names = ['full_backup_id', 'latest_backup_id', 'total_backups', 'total_size_bytes'] as const;
  return names
    .filter((name) => chain[name] !== expected[name])
    .map((name) => `${name} is ${chain[name]}, by the rows of its backups it is ${expected[name]}`);
}
