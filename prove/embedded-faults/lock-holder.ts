// A thread with a connection of its own that holds the write lock of a database for a while.
// It must not write to it.

import { workerData } from 'node:worker_threads';
import Sqlite, { type Database } from 'better-sqlite3';

const { path, milliseconds, state }: { path: string; milliseconds: number; state: Int32Array<SharedArrayBuffer> } = workerData;

/** In `state[0]`: 0 not yet, 1 the lock is held, 2 it is not, or not any more. `state[1]` is the wish to let go. */
function tell(value: 1 | 2): void {
  Atomics.store(state, 0, value);
  Atomics.notify(state, 0);
}

function take(database: Database): boolean {
  try {
    database.exec('begin immediate');
    return true;
  } catch {
    return false; // the attacked program has it itself: what it does at this moment cannot be locked
  }
}

const database = new Sqlite(path, { timeout: 0 });
if (take(database)) {
  tell(1);
  Atomics.wait(state, 1, 0, milliseconds);
  database.exec('rollback');
}
database.close();
tell(2);
