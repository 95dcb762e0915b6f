// Opens the database that a URL names, makes it when it is missing, and brings its tables up to date.
// It must stay cheap: what a current database does not need (migrations, the query builder) is not loaded.

import { closeSync, existsSync, openSync, statfsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Database } from 'better-sqlite3';
import type { Clock } from '../plumbing/clock.ts';
import { ChainkeepError, isChainkeepError } from '../plumbing/errors.ts';
import { makeFolder } from '../plumbing/make-folder.ts';
import type { Catalog } from './catalog.ts';
import { catalogError } from './database-error.ts';
import { readSchemaVersion, SCHEMA_VERSION } from './schema-version.ts';
import { SqliteCatalog } from './sqlite-catalog.ts';

const BUSY_TIMEOUT = 10_000;

export interface OpenCatalogOptions {
  /** `sqlite:PATH` or `mariadb://USER@HOST/DATABASE`. */
  readonly url: string;
  /** Of the user on MariaDB. */
  readonly password?: string | undefined;
  readonly clock: Clock;
  /** Milliseconds to wait for the write lock of another process; default 10 000. */
  readonly busyTimeout?: number;
}

/** Throws CONFIG_INVALID for a URL it does not know, CATALOG_TOO_NEW, and CATALOG_FAILED when the database cannot be opened. */
export async function openCatalog(options: OpenCatalogOptions): Promise<Catalog> {
  const busyTimeout = options.busyTimeout ?? BUSY_TIMEOUT;
  const { catalog, name } = options.url.startsWith('mariadb:')
    ? (await import('./open-mariadb.ts')).openMariadb({ ...options, busyTimeout })
    : await openEmbedded(options, busyTimeout);
  try {
    await bringUpToDate(catalog, name);
    return catalog;
  } catch (error) {
    await catalog.close();
    throw error;
  }
}

async function openEmbedded({ url, clock }: OpenCatalogOptions, busyTimeout: number): Promise<{ catalog: Catalog; name: string }> {
  const path = sqlitePath(url);
  const connection = await openSqlite(path, busyTimeout);
  try {
    return { catalog: new SqliteCatalog(connection, clock), name: path };
  } catch (error) {
    connection.close();
    throw error;
  }
}

function sqlitePath(url: string): string {
  const path = url.startsWith('sqlite:') ? url.slice('sqlite:'.length) : '';
  // The driver would cut blanks off both ends and open another file.
  if (path === '' || path !== path.trim()) {
    throw new ChainkeepError('CONFIG_INVALID', `the database URL "${url}" is not one`, {
      advice: 'write it as sqlite:PATH or mariadb://USER@HOST/DATABASE',
    });
  }
  return resolve(path);
}

async function openSqlite(path: string, timeout: number): Promise<Database> {
  try {
    if (!existsSync(path)) createPrivateFile(path);
    refuseNoRoomForShared(path);
    const { default: Sqlite } = await import('better-sqlite3');
    return new Sqlite(path, { timeout });
  } catch (error) {
    if (isChainkeepError(error)) throw error;
    const known = catalogError(error, path);
    if (known !== error) throw known;
    throw new ChainkeepError('CATALOG_FAILED', `the database ${path} cannot be opened: ${error instanceof Error ? error.message : error}`, {
      advice: 'check that its folder exists or can be made, and belongs to this user',
      context: { database: path },
      cause: error,
    });
  }
}

/** SQLite shares memory through a file and makes sure of one block for each of its pages: where blocks are smaller, the others may find no room. */
const PAGE_BYTES = 4096;
const LEAST_FOR_SHARED = 256 * 1024;

/** A process that touches shared memory for which there is no room is killed by the system (SIGBUS), without a word. */
function refuseNoRoomForShared(path: string): void {
  const { bsize, bavail } = statfsSync(dirname(path));
  if (bsize >= PAGE_BYTES || bavail * bsize >= LEAST_FOR_SHARED) return;
  throw new ChainkeepError('CATALOG_FAILED', `the disk of the database ${path} is full: ${bavail * bsize} bytes are free`, {
    advice: 'the disk that holds the database is full; make room there',
    context: { database: path, available_bytes: bavail * bsize, required_bytes: LEAST_FOR_SHARED },
  });
}

/** Nobody else may read it; SQLite gives its side files the mode of the database. */
function createPrivateFile(path: string): void {
  makeFolder(dirname(path), 0o700);
  closeSync(openSync(path, 'a', 0o600));
}

async function bringUpToDate(catalog: Catalog, name: string): Promise<void> {
  const version = await readSchemaVersion(catalog);
  if (version === SCHEMA_VERSION) return;
  if (version > SCHEMA_VERSION) {
    throw new ChainkeepError(
      'CATALOG_TOO_NEW',
      `the database ${name} has schema ${version}; this version of Chainkeep knows up to ${SCHEMA_VERSION}`,
      {
        advice: 'use the newer version of Chainkeep that wrote it, or give another database',
        context: { database: name, schema_version: version, known_version: SCHEMA_VERSION },
      },
    );
  }
  const { migrateCatalog } = await import('./migrations/migrate-catalog.ts');
  await migrateCatalog(catalog);
}
