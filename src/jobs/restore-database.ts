// Puts a copy in the place of the embedded database: looked at first, while nobody uses the database, the replaced one kept beside it.
// It must not need a sound database to begin with: a damaged or lost one is why this is called.

import { existsSync, realpathSync } from 'node:fs';
import { chmod, copyFile, rename, rm } from 'node:fs/promises';
import type { JobWatch } from '../app-interface.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { checkRows, checkStorage } from '../catalog/check-database.ts';
import { copyDatabase, isUsedByNobody, openDatabaseFile, overwriteDatabase, removeDatabase, SIDE_FILES } from '../catalog/database-file.ts';
import { listUnendedJobs } from '../catalog/job-tracking.ts';
import { openCatalog } from '../catalog/open-catalog.ts';
import { readSchemaVersion, SCHEMA_VERSION } from '../catalog/schema-version.ts';
import { processesWithOpen } from '../control/open-files.ts';
import { type Clock, newId, randomToken } from '../plumbing/clock.ts';
import { ChainkeepError, isChainkeepError, throwIfCancelled } from '../plumbing/errors.ts';
import { publishFile, syncFile, syncFolderOf } from '../plumbing/publish-file.ts';
import { databaseUsers } from './database-users.ts';

export interface RestoredDatabase {
  /** Where the replaced database is kept; null when there was none. */
  readonly replaced: string | null;
  /** Jobs that had not ended when the copy was made. */
  readonly running: readonly string[];
}

/** Commands that only look are over in a moment. */
const PATIENCE_MS = 5000;

/**
 * `path`: of the database; `file`: of the copy, which is not changed. Killed at any moment it leaves the old database or the new one.
 * Throws CATALOG_INVALID and CATALOG_TOO_NEW for a copy that is no good, CATALOG_IN_USE with who uses the database.
 */
export async function restoreDatabase(path: string, file: string, clock: Clock, watch: JobWatch): Promise<RestoredDatabase> {
  if (existsSync(path) && existsSync(file) && realpathSync(path) === realpathSync(file)) throw invalid(file, 'it is the database itself');
  const prepared = `${path}.restoring-${randomToken(8)}`;
  try {
    const running = await prepare(file, prepared, clock, watch);
    if (!existsSync(path)) {
      throwIfCancelled(watch.signal);
      await publishFile(prepared, path);
      return { replaced: null, running };
    }
    await refuseUsers(path, clock);
    throwIfCancelled(watch.signal);
    return { replaced: await replace(path, prepared, `${path}.replaced-${newId(clock)}`), running };
  } finally {
    await removeDatabase(prepared);
  }
}

/** A copy of the copy: looking at it and bringing its tables up to date would change the user's file. Answers the jobs that run in it. */
async function prepare(file: string, prepared: string, clock: Clock, { signal, onProgress }: JobWatch): Promise<readonly string[]> {
  if (!existsSync(file)) {
    throw new ChainkeepError('CATALOG_INVALID', `${file} is not there`, { advice: 'give a file made with: chainkeep database backup' });
  }
  try {
    await copyFile(file, prepared);
    await chmod(prepared, 0o600);
    // Of a database that was copied while it was used, or by hand: what is not in the file yet.
    if (existsSync(`${file}-wal`)) await copyFile(`${file}-wal`, `${prepared}-wal`);
    const copy = await openDatabaseFile(prepared, clock, 1000);
    try {
      onProgress?.({ phase: 'check of the copy', done: 0, total: 0 });
      await refuseUnsound(copy, file, signal);
    } finally {
      await copy.close();
    }
    const migrated = await openCatalog({ url: `sqlite:${prepared}`, clock });
    try {
      for await (const { table, key, message } of checkRows(migrated, () => throwIfCancelled(signal))) {
        throw invalid(file, `${table} ${key}: ${message}`);
      }
      return (await listUnendedJobs(migrated)).map(({ id }) => id);
    } finally {
      await migrated.close();
    }
  } catch (error) {
    throw isChainkeepError(error, 'CATALOG_FAILED') ? invalid(file, error.message, error) : error;
  }
}

async function refuseUnsound(copy: Catalog, file: string, signal: AbortSignal | undefined): Promise<void> {
  const version = await readSchemaVersion(copy);
  if (version === 0) throw invalid(file, 'it holds no tables of Chainkeep');
  if (version > SCHEMA_VERSION) {
    throw new ChainkeepError('CATALOG_TOO_NEW', `${file} has schema ${version}; this version of Chainkeep knows up to ${SCHEMA_VERSION}`, {
      advice: 'use the newer version of Chainkeep that wrote it, or give another copy',
      context: { file, schema_version: version, known_version: SCHEMA_VERSION },
    });
  }
  for await (const { message } of checkStorage(copy)) {
    throwIfCancelled(signal);
    throw invalid(file, message);
  }
}

function invalid(file: string, why: string, cause?: unknown): ChainkeepError {
  return new ChainkeepError('CATALOG_INVALID', `${file} is not a sound copy of a database of Chainkeep: ${why}`, {
    advice: 'give another one; the database in use was not touched',
    context: { file },
    cause,
  });
}

async function refuseUsers(path: string, clock: Clock): Promise<void> {
  const jobs = await databaseUsers(path, clock);
  const nobody = jobs.length === 0 && (await isUsedByNobody(path, PATIENCE_MS));
  if (nobody) return;
  const processes = processesWithOpen(path).map(({ pid, command }) => `process ${pid} (${command})`);
  const who = jobs.length > 0 ? jobs : processes.length > 0 ? processes : ['a process of another user or container'];
  throw new ChainkeepError('CATALOG_IN_USE', `the database is in use: ${who.join('; ')}`, {
    advice: 'wait until that has ended or end it (chainkeep jobs cancel ID), then restore again; nothing was changed',
    context: { database: path, users: who },
    retryable: true,
  });
}

/** Answers where the replaced database is. */
async function replace(path: string, prepared: string, kept: string): Promise<string> {
  try {
    const temporary = `${kept}.tmp`;
    await copyDatabase(path, temporary, {});
    await publishFile(temporary, kept);
  } catch (error) {
    if (!isDamaged(error)) throw error;
    return replaceDamaged(path, prepared, kept);
  }
  try {
    await overwriteDatabase(path, prepared);
  } catch (error) {
    if (isDamaged(error)) return replaceDamaged(path, prepared, kept);
    await rm(kept, { force: true });
    throw error;
  }
  return kept;
}

function isDamaged(error: unknown): boolean {
  const code = isChainkeepError(error, 'CATALOG_FAILED') ? String(error.context.database_code) : '';
  return code.startsWith('SQLITE_CORRUPT') || code.startsWith('SQLITE_NOTADB');
}

/** Nothing can be copied out of it by SQLite, nor written into it: its files are kept as they are, and the new one takes its name. */
async function replaceDamaged(path: string, prepared: string, kept: string): Promise<string> {
  await rm(`${kept}.tmp`, { force: true });
  for (const suffix of ['', ...SIDE_FILES]) {
    if (!existsSync(path + suffix)) continue;
    await copyFile(path + suffix, kept + suffix);
    await syncFile(kept + suffix);
  }
  await syncFile(prepared);
  // First what belongs to the damaged one alone: beside the new one, SQLite would take it for unfinished work of that.
  for (const suffix of SIDE_FILES) await rm(path + suffix, { force: true });
  await syncFolderOf(path);
  await rename(prepared, path);
  await syncFolderOf(path);
  return kept;
}
