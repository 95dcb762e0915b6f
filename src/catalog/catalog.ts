// The open database as the rest of the house sees it: statements in, rows out, transactions.
// It must not know any table: each table has a file of its own whose functions take a Catalog.

import type { Clock } from '../plumbing/clock.ts';

export type Dialect = 'sqlite' | 'mariadb';

export type SqlValue = string | number | null;

/** One statement with `?` in the place of each parameter. A compiled query of kysely has this shape too. */
export interface Sql {
  readonly sql: string;
  readonly parameters: readonly SqlValue[];
}

/** A row as the driver gave it, whose receiver may change it; column.ts turns it into checked values. */
export type RawRow = Record<string, unknown>;

export interface RunOptions {
  /**
   * False: the statement survives the death of this process, but a power cut may take it back. For log lines and progress, which are many.
   * Default true: it is on the disk when the promise resolves.
   */
  readonly durable?: boolean;
}

/** Every statement throws CATALOG_FAILED when the database refuses it; `constraintOf` in database-error.ts says which rule it broke. */
export interface Catalog {
  readonly dialect: Dialect;
  readonly clock: Clock;
  all(statement: Sql): Promise<readonly RawRow[]>;
  /** Answers the number of rows it changed. */
  run(statement: Sql, options?: RunOptions): Promise<number>;
  /**
   * Runs `work` as one unit that holds the write lock from its start: all of it happens or nothing. MariaDB may undo it for a deadlock; then `work`
   * runs again, so it must begin with nothing that an earlier run has left in memory.
   * Inside, use only the Catalog that `work` is given; the outer one waits until the transaction has ended. Keep it short: no file, no network.
   */
  transaction<T>(work: (catalog: Catalog) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}
