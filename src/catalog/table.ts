// Tables as data, and the four plain statements on them; rows go in and out through the checks of column.ts.
// It must not know any particular table. Why this and not kysely: docs/decisions/0004-tables-as-data.md.

import type { Catalog, RawRow, RunOptions, Sql } from './catalog.ts';
import type { Column } from './column.ts';
import { join, literal, sql } from './sql.ts';

export type Columns = Readonly<Record<string, Column<unknown>>>;

export type RowOf<C extends Columns> = { readonly [Name in keyof C]: C[Name] extends Column<infer T> ? T : never };

export interface Table<C extends Columns> {
  readonly name: string;
  readonly columns: C;
}

export function defineTable<const C extends Columns>(name: string, columns: C): Table<C> {
  return { name, columns };
}

/** The row of a table, for `type BackupJob = TableRow<typeof BACKUP_JOBS>`. */
export type TableRow<T extends Table<Columns>> = RowOf<T['columns']>;

/** Runs a select and checks each column that is named in `columns`. */
export async function query<C extends Columns>(catalog: Catalog, columns: C, statement: Sql): Promise<readonly RowOf<C>[]> {
  return decodeRows(columns, await catalog.all(statement));
}

/** `rest` is what follows the name of the table: where, order by, limit. */
export function select<C extends Columns>(catalog: Catalog, table: Table<C>, rest: Sql): Promise<readonly RowOf<C>[]> {
  return query(catalog, table.columns, sql`select ${columnList(table)} from ${literal(table.name)} ${rest}`);
}

export async function selectOne<C extends Columns>(catalog: Catalog, table: Table<C>, rest: Sql): Promise<RowOf<C> | undefined> {
  return (await select(catalog, table, sql`${rest} limit 1`))[0];
}

export async function count(catalog: Catalog, table: Table<Columns>, rest: Sql): Promise<number> {
  const rows = await catalog.all(sql`select count(*) as n from ${literal(table.name)} ${rest}`);
  return Number(rows[0]?.n);
}

/** Columns that are left out get the default of the database. */
export async function insert<C extends Columns>(
  catalog: Catalog,
  table: Table<C>,
  row: Partial<RowOf<C>>,
  options?: RunOptions,
): Promise<void> {
  const values = encodeRow(catalog, table, row);
  const names = values.map(([name]) => literal(name));
  const parameters = values.map(([, value]) => value);
  await catalog.run(sql`insert into ${literal(table.name)} (${join(names, ', ')}) values (${join(parameters, ', ')})`, options);
}

/** Answers the number of rows that `condition` fits. */
export function update<C extends Columns>(
  catalog: Catalog,
  table: Table<C>,
  set: Partial<RowOf<C>>,
  condition: Sql,
  options?: RunOptions,
): Promise<number> {
  const assignments = encodeRow(catalog, table, set).map(([name, value]) => sql`${literal(name)} = ${value}`);
  return catalog.run(sql`update ${literal(table.name)} set ${join(assignments, ', ')} where ${condition}`, options);
}

export function remove(catalog: Catalog, table: Table<Columns>, condition: Sql): Promise<number> {
  return catalog.run(sql`delete from ${literal(table.name)} where ${condition}`);
}

export function columnList(table: Table<Columns>, prefix = ''): Sql {
  return literal(
    Object.keys(table.columns)
      .map((name) => prefix + name)
      .join(', '),
  );
}

/** In place: a listing has ten thousand rows, and on SQLite most values are right as they come. */
function decodeRows<C extends Columns>(columns: C, rows: readonly RawRow[]): readonly RowOf<C>[] {
  for (const [name, column] of Object.entries(columns)) decodeColumn(rows, name, column);
  return rows as readonly RowOf<C>[]; // every column of C has been checked
}

function decodeColumn(rows: readonly RawRow[], name: string, column: Column<unknown>): void {
  for (const row of rows) {
    const raw = row[name];
    const value = column.decode(raw, name);
    if (value !== raw) row[name] = value;
  }
}

function encodeRow<C extends Columns>(catalog: Catalog, table: Table<C>, row: Partial<RowOf<C>>): readonly (readonly [string, Sql])[] {
  const given = Object.entries<unknown>(row).filter(([, value]) => value !== undefined);
  return given.map(([name, value]) => {
    const column = table.columns[name];
    if (!column) throw new TypeError(`${table.name} has no column ${name}`);
    return [name, sql`${column.encode(value, name, catalog.dialect)}`];
  });
}
