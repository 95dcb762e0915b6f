// The catalog on MariaDB: a pool of connections, their settings, and the lock that lets transactions follow one another.
// It must not know tables or migrations.

import type { Pool, PoolConnection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import type { Clock } from '../plumbing/clock.ts';
import { assert, ChainkeepError } from '../plumbing/errors.ts';
import type { Catalog, RawRow, Sql } from './catalog.ts';
import { isConnectionLost, isDeadlock, mariadbError } from './mariadb-error.ts';

export interface MariadbPlace {
  /** For messages: no password in it. */
  readonly name: string;
  /** Milliseconds that a statement waits for others. */
  readonly busyTimeout: number;
}

/** A deadlock is nobody's fault: InnoDB undoes one of two, and that one begins again. */
const MOST_ATTEMPTS = 10;

/**
 * In force on every connection, whatever the server's defaults: text is text with all its characters, times are UTC, and what does not fit is
 * refused instead of cut.
 */
function settings(busyTimeout: number): readonly string[] {
  return [
    'set names utf8mb4 collate utf8mb4_nopad_bin',
    `set time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION',
      innodb_lock_wait_timeout = ${Math.max(1, Math.ceil(busyTimeout / 1000))}`,
  ];
}

export class MariadbCatalog implements Catalog {
  readonly dialect = 'mariadb';
  readonly clock: Clock;
  readonly #pool: Pool;
  readonly #place: MariadbPlace;
  readonly #ready = new WeakSet<object>();

  constructor(pool: Pool, place: MariadbPlace, clock: Clock) {
    this.#pool = pool;
    this.#place = place;
    this.clock = clock;
  }

  all(statement: Sql): Promise<readonly RawRow[]> {
    // To read once more does no harm: a server that was started again is met by connections of its former life.
    return this.#again(isConnectionLost, () => this.#withConnection((connection) => selectRows(connection, statement)));
  }

  run(statement: Sql): Promise<number> {
    return this.#again(isDeadlock, () => this.#withConnection((connection) => change(connection, statement)));
  }

  transaction<T>(work: (catalog: Catalog) => Promise<T>): Promise<T> {
    return this.#again(isDeadlock, () => this.#withConnection((connection) => this.#inTransaction(connection, work)));
  }

  async close(): Promise<void> {
    try {
      await this.#pool.end();
    } catch (error) {
      const known = mariadbError(error, this.#place.name);
      // To say goodbye to a server that is gone is no loss: every statement has been answered before.
      if (!isConnectionLost(known)) throw known;
    }
  }

  async #again<T>(isWorthIt: (error: unknown) => boolean, attempt: () => Promise<T>): Promise<T> {
    for (let count = 1; ; count += 1) {
      try {
        return await attempt();
      } catch (error) {
        if (count === MOST_ATTEMPTS || !isWorthIt(error)) throw error;
      }
    }
  }

  /** A connection whose state is not known any more is not given back. */
  async #withConnection<T>(use: (connection: PoolConnection) => Promise<T>): Promise<T> {
    let connection: PoolConnection | undefined;
    try {
      connection = await this.#pool.getConnection();
      await this.#prepare(connection);
      const result = await use(connection);
      connection.release();
      return result;
    } catch (error) {
      const known = mariadbError(error, this.#place.name);
      if (isConnectionLost(known)) connection?.destroy();
      else connection?.release();
      throw known;
    }
  }

  async #prepare(connection: PoolConnection): Promise<void> {
    // The promise around a connection is a new one each time, the connection below is not.
    if (this.#ready.has(connection.connection)) return;
    for (const setting of settings(this.#place.busyTimeout)) await connection.query(setting);
    this.#ready.add(connection.connection);
  }

  /**
   * Transactions hold one lock of the server from their start, as they do on SQLite, so what one has read is still so when it writes. SERIALIZABLE
   * keeps single statements of others away from what was read.
   */
  async #inTransaction<T>(connection: PoolConnection, work: (catalog: Catalog) => Promise<T>): Promise<T> {
    await this.#lock(connection);
    const inside = insideTransaction(connection, this.clock, this.#place.name);
    try {
      await connection.query('set transaction isolation level serializable');
      await connection.query('start transaction');
      const result = await work(inside.catalog);
      await connection.query('commit');
      return result;
    } catch (error) {
      await this.#rollBack(connection, error);
      throw error;
    } finally {
      inside.end();
      await this.#unlock(connection);
    }
  }

  async #lock(connection: PoolConnection): Promise<void> {
    const seconds = Math.max(1, Math.ceil(this.#place.busyTimeout / 1000));
    const [rows] = await connection.query<RowDataPacket[]>(`select get_lock(concat('chainkeep.', md5(database())), ${seconds}) as locked`);
    if (Number(rows[0]?.locked) === 1) return;
    throw new ChainkeepError('CATALOG_FAILED', `the database ${this.#place.name} is being written to by another process`, {
      advice: 'another process is writing to the database for unusually long; try again',
      context: { database: this.#place.name },
      retryable: true,
    });
  }

  /** Of a connection that is lost the server undoes everything itself; the first error is the one that matters. */
  async #rollBack(connection: PoolConnection, first: unknown): Promise<void> {
    if (isConnectionLost(mariadbError(first, this.#place.name))) return;
    await connection.query('rollback');
  }

  async #unlock(connection: PoolConnection): Promise<void> {
    try {
      await connection.query("do release_lock(concat('chainkeep.', md5(database())))");
    } catch {
      // How the transaction ended is decided, and must reach the caller. The server lets go of the lock when the connection ends: it ends here.
      connection.destroy();
    }
  }
}

/** The Catalog that the work of a transaction sees: the one connection. A transaction inside is part of the outer one. */
function insideTransaction(connection: PoolConnection, clock: Clock, name: string): { catalog: Catalog; end: () => void } {
  let ended = false;
  const guarded = async <T>(action: () => Promise<T>): Promise<T> => {
    assert(!ended, 'a statement was started after its transaction had ended');
    try {
      return await action();
    } catch (error) {
      throw mariadbError(error, name);
    }
  };
  const catalog: Catalog = {
    dialect: 'mariadb',
    clock,
    all: (statement) => guarded(() => selectRows(connection, statement)),
    run: (statement) => guarded(() => change(connection, statement)),
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

async function selectRows(connection: PoolConnection, statement: Sql): Promise<readonly RawRow[]> {
  const [rows] = await connection.query<RowDataPacket[]>(statement.sql, [...statement.parameters]);
  return rows;
}

async function change(connection: PoolConnection, statement: Sql): Promise<number> {
  const [result] = await connection.query<ResultSetHeader>(statement.sql, [...statement.parameters]);
  return result.affectedRows;
}
