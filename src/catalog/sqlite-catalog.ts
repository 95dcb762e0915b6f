// The catalog on SQLite: one connection, its settings, and the queue before a transaction.
// It must not know tables or migrations.

import type { Database } from 'better-sqlite3';
import type { Clock } from '../plumbing/clock.ts';
import { assert } from '../plumbing/errors.ts';
import type { Catalog, RawRow, RunOptions, Sql } from './catalog.ts';
import { catalogError } from './database-error.ts';

export class SqliteCatalog implements Catalog {
  readonly dialect = 'sqlite';
  readonly clock: Clock;
  readonly #connection: Database;
  /**
   * Resolves when the open transaction has ended; everybody else waits for it, for there is only one connection. Each method has the loop itself:
   * what follows must happen in the same turn as the last look, or another transaction could begin in between.
   */
  #transaction: Promise<void> | undefined;
  #waitsForDisk = true;

  constructor(connection: Database, clock: Clock) {
    this.#connection = connection;
    this.clock = clock;
    guarded(connection, () => configure(connection));
  }

  async all(statement: Sql): Promise<readonly RawRow[]> {
    while (this.#transaction !== undefined) await this.#transaction;
    return selectRows(this.#connection, statement);
  }

  async run(statement: Sql, options?: RunOptions): Promise<number> {
    while (this.#transaction !== undefined) await this.#transaction;
    this.#waitForDisk(options?.durable ?? true);
    return change(this.#connection, statement);
  }

  async transaction<T>(work: (catalog: Catalog) => Promise<T>): Promise<T> {
    while (this.#transaction !== undefined) await this.#transaction;
    let end = (): void => undefined;
    this.#transaction = new Promise((resolve) => {
      end = resolve;
    });
    try {
      return await this.#inTransaction(work);
    } finally {
      this.#transaction = undefined;
      end();
    }
  }

  async close(): Promise<void> {
    while (this.#transaction !== undefined) await this.#transaction;
    guarded(this.#connection, () => this.#connection.close());
  }

  /**
   * FULL: a commit is on the disk before the next step is taken. NORMAL writes to the log without waiting for the disk: enough against a killed
   * process, and what is durable later makes this durable too. Asked for before each change, so that no failure on the way leaves the wrong one.
   */
  #waitForDisk(wait: boolean): void {
    if (wait === this.#waitsForDisk) return;
    guarded(this.#connection, () => this.#connection.pragma(`synchronous = ${wait ? 'FULL' : 'NORMAL'}`));
    this.#waitsForDisk = wait;
  }

  async #inTransaction<T>(work: (catalog: Catalog) => Promise<T>): Promise<T> {
    const connection = this.#connection;
    this.#waitForDisk(true);
    // IMMEDIATE: a transaction that begins by reading could not become a writer once another process has written.
    guarded(connection, () => connection.exec('begin immediate'));
    const inside = insideTransaction(connection, this.clock);
    try {
      const result = await work(inside.catalog);
      guarded(connection, () => connection.exec('commit'));
      return result;
    } catch (error) {
      // Some errors (a full disk) have rolled it back already.
      if (connection.inTransaction) guarded(connection, () => connection.exec('rollback'));
      throw error;
    } finally {
      inside.end();
    }
  }
}

/** The Catalog that the work of a transaction sees: the same connection without the queue. A transaction inside is part of the outer one. */
function insideTransaction(connection: Database, clock: Clock): { catalog: Catalog; end: () => void } {
  let ended = false;
  const open = (): Database => {
    assert(!ended, 'a statement was started after its transaction had ended');
    return connection;
  };
  const catalog: Catalog = {
    dialect: 'sqlite',
    clock,
    all: async (statement) => selectRows(open(), statement),
    run: async (statement) => change(open(), statement),
    transaction: (work) => work(catalog),
    close: async () => assert(false, 'the catalog was closed inside a transaction'),
  };
  return {
    catalog,
    end: () => {
      ended = true;
    },
  };
}

function configure(connection: Database): void {
  connection.pragma('foreign_keys = ON');
  // The mode is a property of the file: changing it needs the file for oneself, so only the first process does.
  if (connection.pragma('journal_mode', { simple: true }) !== 'wal') connection.pragma('journal_mode = WAL');
  connection.pragma('synchronous = FULL');
}

function selectRows(connection: Database, statement: Sql): readonly RawRow[] {
  return guarded(connection, () => connection.prepare<unknown[], RawRow>(statement.sql).all(...statement.parameters));
}

function change(connection: Database, statement: Sql): number {
  return guarded(connection, () => connection.prepare(statement.sql).run(...statement.parameters).changes);
}

function guarded<T>(connection: Database, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw catalogError(error, connection.name);
  }
}
