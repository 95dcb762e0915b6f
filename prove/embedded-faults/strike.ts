// Loaded into the attacked program before it begins (NODE_OPTIONS=--import): counts the statements that the driver of SQLite is given, and strikes
// one of them. Locks, full disks and databases that take no writes are real; only the I/O error is made up. It must not change any other statement.

import { appendFileSync, closeSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { isMainThread, Worker } from 'node:worker_threads';
import Sqlite, { type Database, type Statement as Prepared } from 'better-sqlite3';
import { type EmbeddedFault, ORDER, type Order, type Statement } from './statement.ts';

/** Instead of the product's own limit, which would make a campaign last hours. */
const BUSY_MS = 150;
const HELD_MS = 300;
const SLOW_MS = 1000;
const HOLDER_MS = 20_000;

const order: Order = JSON.parse(process.env[ORDER] ?? '{}');
let count = 0;
/** Ends what was begun, once a statement was refused. */
let relieve = (): void => undefined;

if (isMainThread && process.env[ORDER] !== undefined) wrap();

function wrap(): void {
  const memory = new Sqlite(':memory:');
  const prepared: Prepared = Object.getPrototypeOf(memory.prepare('select 1'));
  memory.close();
  for (const name of ['all', 'get', 'run'] as const) {
    const original = prepared[name];
    prepared[name] = function (this: Prepared, ...parameters: readonly unknown[]) {
      return through(this.database, { text: this.source, writes: !this.readonly && !/^pragma/i.test(this.source) }, () =>
        Reflect.apply(original, this, parameters),
      );
    } as Prepared['all' & 'get' & 'run'];
  }
  const exec = Sqlite.prototype.exec;
  Sqlite.prototype.exec = function (this: Database, text: string) {
    return through(this, { text, writes: false }, () => Reflect.apply(exec, this, [text]));
  };
}

let busy = false;

function through<Result>(database: Database, { text, writes }: Omit<Statement, 'inTransaction'>, run: () => Result): Result {
  // What the strike itself does is not counted.
  if (busy || database.memory) return run();
  count += 1;
  const statement = { text, writes, inTransaction: database.inTransaction };
  if (order.trace !== undefined) appendFileSync(order.trace, `${JSON.stringify(statement)}\n`);
  if (count === order.strike?.at) aside(() => strike(database));
  try {
    const result = run();
    if (count === order.strike?.at && order.strike.fault === 'killed after') die();
    return result;
  } catch (error) {
    relieve();
    throw error;
  }
}

function aside(work: () => void): void {
  busy = true;
  try {
    work();
  } finally {
    busy = false;
  }
}

/** What each does to the connection, before its statement; false when that could not be done. */
const STRIKES: Readonly<Record<EmbeddedFault, (database: Database, filler: string) => boolean>> = {
  held: ({ name }) => hold(name, HELD_MS) !== undefined,
  locked: (database) => {
    const release = holdLong(database);
    if (release) relieve = release;
    return release !== undefined;
  },
  'locked for good': (database) => holdLong(database) !== undefined,
  full: (_, filler) => {
    fill(filler);
    relieve = () => rmSync(filler, { force: true });
    return true;
  },
  'full for good': (_, filler) => fill(filler),
  'read-only': (database) => database.pragma('query_only = ON') !== undefined,
  unreadable: () => true,
  slow: () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, SLOW_MS) !== undefined,
  killed: () => true,
  'killed after': () => true,
};

function strike(database: Database): void {
  if (!order.strike) return;
  const { fault, filler, hit } = order.strike;
  if (!STRIKES[fault](database, filler)) return;
  writeFileSync(hit, '');
  if (fault === 'killed') die();
  if (fault !== 'unreadable') return;
  if (database.inTransaction) database.exec('rollback');
  throw new Sqlite.SqliteError('disk I/O error', 'SQLITE_IOERR_READ');
}

function die(): never {
  process.kill(process.pid, 'SIGKILL');
  throw new Error('it lives');
}

/** To the last byte. */
function fill(path: string): true {
  const file = openSync(path, 'w');
  for (let size = 1 << 20; size > 0; size = Math.floor(size / 2)) {
    try {
      for (;;) writeSync(file, Buffer.alloc(size));
    } catch {
      // No room for so much: the rest is filled with less.
    }
  }
  closeSync(file);
  return true;
}

/** For longer than the program waits. */
function holdLong(database: Database): (() => void) | undefined {
  database.pragma(`busy_timeout = ${BUSY_MS}`);
  return hold(database.name, HOLDER_MS);
}

/** Another connection takes the write lock and gives it back after so long, or when the answer is called. Undefined when the lock is not to be had. */
function hold(path: string, milliseconds: number): (() => void) | undefined {
  const state = new Int32Array(new SharedArrayBuffer(8));
  const worker = new Worker(new URL('./lock-holder.ts', import.meta.url), { workerData: { path, milliseconds, state }, env: {} });
  worker.unref();
  // A thread that cannot be started says nothing: then the fault is not met.
  Atomics.wait(state, 0, 0, HOLDER_MS);
  if (state[0] !== 1) return undefined;
  return () => {
    relieve = () => undefined;
    Atomics.store(state, 1, 1);
    Atomics.notify(state, 1);
    Atomics.wait(state, 0, 1, HOLDER_MS);
  };
}
