// The embedded database as a file: whole copies of it while it is used, and putting such a copy in its place.
// It must not know what the rows mean.

import { existsSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from 'better-sqlite3';
import type { Clock } from '../plumbing/clock.ts';
import { ChainkeepError, systemCode, throwIfCancelled } from '../plumbing/errors.ts';
import { catalogError } from './database-error.ts';
import { SqliteCatalog } from './sqlite-catalog.ts';

/** Beside a database that is used or was not closed. */
export const SIDE_FILES = ['-wal', '-shm', '-journal'] as const;

/** The absolute path of an embedded database; undefined for one on a server. */
export function databasePath(url: string): string | undefined {
  return url.startsWith('sqlite:') ? resolve(url.slice('sqlite:'.length)) : undefined;
}

/** Without a look at its tables: they may be of another version. */
export async function openDatabaseFile(path: string, clock: Clock, busyTimeout: number): Promise<SqliteCatalog> {
  const connection = await connect(path, busyTimeout);
  try {
    return new SqliteCatalog(connection, clock);
  } catch (error) {
    connection.close();
    throw error;
  }
}

export interface CopyRun {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

const PAGES_AT_ONCE = 256;

/**
 * Writes the database as it is at this moment to `to`, a private file made here; others go on reading and writing. `to` is neither synced nor checked.
 * On an error nothing is left.
 */
export async function copyDatabase(from: string, to: string, { signal, onProgress }: CopyRun): Promise<void> {
  await (await open(to, 'wx', 0o600)).close();
  const connection = await connect(from, 10_000);
  try {
    const pageSize = Number(connection.pragma('page_size', { simple: true }));
    // One snapshot for the whole copy. Without it the copy would begin anew whenever another process writes, and never end under load.
    connection.exec('begin');
    connection.prepare('select count(*) from sqlite_schema').get();
    await connection.backup(to, {
      progress: ({ totalPages, remainingPages }) => {
        throwIfCancelled(signal);
        onProgress?.((totalPages - remainingPages) * pageSize, totalPages * pageSize);
        return PAGES_AT_ONCE;
      },
    });
  } catch (error) {
    await removeDatabase(to);
    // Only the copy grows.
    const isFull = systemCode(error) === 'SQLITE_FULL' || systemCode(error)?.startsWith('SQLITE_IOERR_WRITE');
    throw catalogError(error, isFull ? to : from);
  } finally {
    connection.close();
  }
}

/** Makes the content of the database that of `from`, as one transaction: whoever has it open sees the old content or the new one, also after a kill. */
export async function overwriteDatabase(path: string, from: string): Promise<void> {
  const source = await connect(from, 10_000);
  try {
    await source.backup(path);
  } catch (error) {
    throw catalogError(error, path);
  } finally {
    source.close();
  }
  const connection = await connect(path, 10_000);
  try {
    connection.pragma('synchronous = FULL');
    connection.pragma('wal_checkpoint(TRUNCATE)');
  } catch (error) {
    throw catalogError(error, path);
  } finally {
    connection.close();
  }
}

const LOOK_AGAIN_MS = 200;

/** False when a process that has it open does not close it in `patience` milliseconds; a database that is no database has no user. */
export async function isUsedByNobody(path: string, patience: number): Promise<boolean> {
  for (let waited = 0; ; waited += LOOK_AGAIN_MS) {
    if (await isAlone(path)) return true;
    if (waited >= patience) return false;
    await sleep(LOOK_AGAIN_MS);
  }
}

/** In WAL mode everybody who has the database open holds a shared lock on it; this asks for the exclusive one. */
async function isAlone(path: string): Promise<boolean> {
  const connection = await connect(path, 0);
  try {
    connection.pragma('locking_mode = EXCLUSIVE');
    connection.exec('begin immediate');
    connection.exec('rollback');
    return true;
  } catch (error) {
    const { context } = asChainkeepError(catalogError(error, path));
    const code = String(context.database_code);
    if (code.startsWith('SQLITE_BUSY')) return false;
    if (code.startsWith('SQLITE_NOTADB') || code.startsWith('SQLITE_CORRUPT')) return true;
    throw error;
  } finally {
    connection.close();
  }
}

function asChainkeepError(error: unknown): ChainkeepError {
  if (error instanceof ChainkeepError) return error;
  throw error;
}

/** Of a copy that is not needed: the file and what SQLite puts beside it. */
export async function removeDatabase(path: string): Promise<void> {
  for (const name of [path, ...SIDE_FILES.map((suffix) => path + suffix)]) await rm(name, { force: true });
}

async function connect(path: string, timeout: number): Promise<Database> {
  if (!existsSync(path)) {
    throw new ChainkeepError('CATALOG_FAILED', `the database ${path} is not there`, {
      advice: 'give the path of one that is',
      context: { database: path },
    });
  }
  const { default: Sqlite } = await import('better-sqlite3');
  try {
    return new Sqlite(path, { timeout });
  } catch (error) {
    throw catalogError(error, path);
  }
}
