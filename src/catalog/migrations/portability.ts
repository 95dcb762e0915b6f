// Everything in which the tables of SQLite and MariaDB differ: types, lengths, enums, JSON, times, triggers, collation.
// It must not know any table. A migration describes a table once, with these words.

import {
  type ColumnBuilderCallback,
  type Compilable,
  type CreateTableBuilder,
  DummyDriver,
  type Expression,
  Kysely,
  MysqlAdapter,
  MysqlIntrospector,
  MysqlQueryCompiler,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
  sql,
} from 'kysely';
import type { Dialect } from '../catalog.ts';

/** One migration step: exactly one statement that does no harm when it runs again, or nothing on a dialect that does not need it. */
export type Step = (schema: SchemaWords) => Compilable | undefined;

export interface ColumnOptions {
  /** Default: not null. */
  readonly null?: boolean;
  readonly primaryKey?: boolean;
  readonly default?: string | number | boolean;
}

export type ColumnSpec = readonly [name: string, type: Expression<unknown>, build: ColumnBuilderCallback];

export interface Reference {
  readonly column: string;
  readonly table: string;
  readonly key: string;
  readonly onDelete: 'restrict' | 'cascade' | 'set null';
}

export interface TableSpec {
  readonly columns: readonly ColumnSpec[];
  readonly references?: readonly Reference[];
  readonly unique?: Readonly<Record<string, readonly string[]>>;
}

export type SchemaWords = ReturnType<typeof schemaWords>;

/** The words for one dialect. */
export function schemaWords(dialect: Dialect) {
  return { ...columnWords(dialect), ...tableWords(dialect) };
}

function columnWords(dialect: Dialect) {
  const sqlite = dialect === 'sqlite';
  const word = (
    name: string,
    types: { sqlite: string; mariadb: string },
    options: ColumnOptions,
    check?: string,
    both = false,
  ): ColumnSpec => [
    name,
    sql.raw(sqlite ? types.sqlite : types.mariadb),
    (column) => {
      let built = options.null ? column : column.notNull();
      if (options.primaryKey) built = built.primaryKey();
      if (options.default !== undefined) built = built.defaultTo(defaultValue(options.default));
      return check !== undefined && (sqlite || both) ? built.check(sql.raw(check)) : built;
    },
  ];
  return {
    /** `length` in characters. */
    varchar: (name: string, length: number, options: ColumnOptions = {}) =>
      word(name, { sqlite: 'text', mariadb: `varchar(${length})` }, options, `length(${name}) <= ${length}`),
    longText: (name: string, options: ColumnOptions = {}) => word(name, { sqlite: 'text', mariadb: 'text' }, options),
    int: (name: string, options: ColumnOptions = {}) => word(name, { sqlite: 'int', mariadb: 'int' }, options),
    /** A size in bytes: 64 bits, never negative. */
    bytes: (name: string, options: ColumnOptions = {}) =>
      word(name, { sqlite: 'integer', mariadb: 'bigint' }, options, `${name} >= 0`, true),
    boolean: (name: string, options: ColumnOptions = {}) =>
      word(name, { sqlite: 'int', mariadb: 'boolean' }, options, `${name} in (0, 1)`, true),
    oneOf: (name: string, values: readonly string[], options: ColumnOptions = {}) => {
      const quoted = values.map((value) => `'${value}'`).join(', ');
      return word(name, { sqlite: 'text', mariadb: `enum(${quoted})` }, options, `${name} in (${quoted})`);
    },
    /** MariaDB's json is text with this check, and the table's collation. */
    json: (name: string, options: ColumnOptions = {}) =>
      word(name, { sqlite: 'text', mariadb: 'longtext' }, options, `json_valid(${name})`, true),
    /** UTC. TIMESTAMP would end in 2038. */
    instant: (name: string, options: ColumnOptions = {}) => word(name, { sqlite: 'text', mariadb: 'datetime(6)' }, options, isoCheck(name)),
    createdAt: (): ColumnSpec => [
      'created_at',
      sql.raw(sqlite ? 'text' : 'datetime(6)'),
      (column) =>
        sqlite
          ? column
              .notNull()
              .defaultTo(ISO_NOW)
              .check(sql.raw(isoCheck('created_at')))
          : column.notNull().defaultTo(UTC_NOW),
    ],
    /** Follows every update: on SQLite with the trigger of `followUpdates`. */
    updatedAt: (): ColumnSpec => [
      'updated_at',
      sql.raw(sqlite ? 'text' : 'datetime(6)'),
      (column) =>
        sqlite
          ? column
              .notNull()
              .defaultTo(ISO_NOW)
              .check(sql.raw(isoCheck('updated_at')))
          : column.notNull().defaultTo(UTC_NOW).modifyEnd(sql`on update current_timestamp(6)`),
    ],
    /** A number that the database gives, ascending. */
    serial: (name: string): ColumnSpec => [
      name,
      sql.raw(sqlite ? 'integer' : 'bigint'),
      (column) => column.notNull().primaryKey().autoIncrement(),
    ],
  };
}

function tableWords(dialect: Dialect) {
  const { schema } = dialect === 'sqlite' ? SQLITE_COMPILER : MARIADB_COMPILER;
  return {
    table: (name: string, spec: TableSpec): Compilable => {
      let table: CreateTableBuilder<string, string> = schema.createTable(name).ifNotExists();
      for (const [column, type, build] of spec.columns) table = table.addColumn(column, type, build);
      for (const [unique, columns] of Object.entries(spec.unique ?? {})) {
        table = table.addUniqueConstraint(unique, [...columns]);
      }
      for (const reference of spec.references ?? []) {
        table = table.addForeignKeyConstraint(
          `fk_${name}_${reference.column}`,
          [reference.column],
          reference.table,
          [reference.key],
          (key) => key.onDelete(reference.onDelete),
        );
      }
      // STRICT: SQLite refuses text in a number, as MariaDB does. The collation: no two names are the same unless their characters are.
      return table.modifyEnd(
        dialect === 'sqlite' ? sql`strict` : sql`engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin`,
      );
    },
    index: (name: string, table: string, columns: readonly string[]): Compilable =>
      schema
        .createIndex(name)
        .ifNotExists()
        .on(table)
        .columns([...columns]),
    followUpdates: (table: string, key: string): Compilable | undefined =>
      dialect === 'sqlite' ? { compile: () => sql.raw(updateTrigger(table, key)).compile(SQLITE_COMPILER) } : undefined,
  };
}

const ISO_NOW = sql`(strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))`;
const UTC_NOW = sql`(utc_timestamp(6))`;

function isoCheck(name: string): string {
  return `${name} glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'`;
}

/** Only where the update itself did not set another time. */
function updateTrigger(table: string, key: string): string {
  return `create trigger if not exists ${table}_updated_at after update on ${table} for each row when new.updated_at = old.updated_at begin
  update ${table} set updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') where ${key} = new.${key};
end`;
}

function defaultValue(value: string | number | boolean): string | number {
  return typeof value === 'boolean' ? Number(value) : value;
}

// Kysely writes the statements; the catalog runs them.
const SQLITE_COMPILER = new Kysely<unknown>({
  dialect: {
    createAdapter: () => new SqliteAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: (database) => new SqliteIntrospector(database),
    createQueryCompiler: () => new SqliteQueryCompiler(),
  },
});
const MARIADB_COMPILER = new Kysely<unknown>({
  dialect: {
    createAdapter: () => new MysqlAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: (database) => new MysqlIntrospector(database),
    createQueryCompiler: () => new MysqlQueryCompiler(),
  },
});
