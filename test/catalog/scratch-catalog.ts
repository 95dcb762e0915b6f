// A database of its own for each test, on the kind of server that the run is for, and rows to fill it with.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { createConnection } from 'mysql2/promise';
import { inject, onTestFinished } from 'vitest';
import type { NewBackupJob } from '../../src/catalog/backup-jobs.ts';
import { insertRepository } from '../../src/catalog/backup-repositories.ts';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { openCatalog } from '../../src/catalog/open-catalog.ts';
import { insertVmContext } from '../../src/catalog/vm-contexts.ts';
import { type Clock, isoTime, randomToken, systemClock } from '../../src/plumbing/clock.ts';

export async function scratchFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'chainkeep-catalog-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Where a database is, for `openCatalog` and for other processes. */
export interface DatabasePlace {
  readonly url: string;
  readonly password: string | undefined;
}

export interface Scratch {
  readonly catalog: Catalog;
  readonly place: DatabasePlace;
  /** Of the file, on SQLite. */
  readonly path: string;
  /** What another program would do to the database. */
  raw(statement: string): Promise<readonly unknown[]>;
}

/** Which database the tests of this run are for. */
export const ON_MARIADB = process.env.CHAINKEEP_TEST_DATABASE === 'mariadb';

export async function openScratch(clock: Clock = systemClock): Promise<Scratch> {
  const place = await scratchPlace();
  const catalog = await openCatalog({ ...place, clock });
  onTestFinished(() => catalog.close());
  return { catalog, place, path: place.url.replace(/^sqlite:/, ''), raw: (statement) => rawStatement(place, statement) };
}

/** A place where no database is yet (SQLite) or an empty one (MariaDB). */
export async function scratchPlace(): Promise<DatabasePlace> {
  if (!ON_MARIADB) return { url: `sqlite:${join(await scratchFolder(), 'catalog.sqlite')}`, password: undefined };
  const { url, password } = inject('mariadb');
  const name = `chainkeep_test_${randomToken(12)}`;
  await onServer({ url, password }, `create database ${name}`);
  onTestFinished(() => onServer({ url, password }, `drop database ${name}`).then(() => undefined));
  return { url: `${url}${name}`, password };
}

async function rawStatement(place: DatabasePlace, statement: string): Promise<readonly unknown[]> {
  return place.url.startsWith('sqlite:') ? rawSql(place.url.slice('sqlite:'.length), statement) : onServer(place, statement);
}

/** One statement on the server that the place is on. */
export async function onServer({ url, password }: DatabasePlace, statement: string): Promise<readonly unknown[]> {
  const { hostname, port, username, pathname } = new URL(url);
  const database = pathname.slice(1);
  const connection = await createConnection({
    host: hostname,
    port: Number(port),
    user: username,
    dateStrings: true,
    timezone: 'Z',
    ...(password !== undefined && { password }),
    ...(database !== '' && { database }),
  });
  try {
    const [rows] = await connection.query(statement);
    return Array.isArray(rows) ? rows : [];
  } finally {
    await connection.end();
  }
}

/** A time in UTC as a statement of this database has it. */
export function rawTime(iso: string): string {
  return ON_MARIADB ? iso.replace('T', ' ').replace('Z', '') : iso;
}

/** A clock that stands still until it is moved. */
export interface SetClock extends Clock {
  advance(milliseconds: number): void;
  /** Sets the wall clock alone, as somebody does who may. */
  jump(milliseconds: number): void;
}

export function setClock(start = Date.parse('2026-11-22T13:00:00Z')): SetClock {
  let passed = 0;
  let set = start;
  return {
    now: () => set + passed,
    monotonic: () => passed,
    boot: () => ({ since: passed, at: set }),
    advance: (milliseconds) => {
      passed += milliseconds;
    },
    jump: (milliseconds) => {
      set += milliseconds;
    },
  };
}

export const AT = '2026-11-22T13:00:00.000Z';

export async function addRepository(catalog: Catalog, id = 'repo-1', name = id): Promise<string> {
  await insertRepository(catalog, { id, name, repository_type: 'local', config: { path: '/backups' }, created_at: AT });
  return id;
}

export async function addVm(catalog: Catalog, id = 'vm-1', name = 'web'): Promise<string> {
  await insertVmContext(catalog, { context_id: id, vm_name: name, created_at: AT });
  return id;
}

/** A full backup of disk 0 of `vm-1` in `repo-1`, begun `minute` minutes after AT, unless `other` says otherwise. */
export function backupRow(id: string, minute: number, other: Partial<NewBackupJob> = {}) {
  const at = isoTime(Date.parse(AT) + minute * 60_000);
  return {
    id,
    vm_context_id: 'vm-1',
    vm_name: 'web',
    disk_id: 0,
    repository_id: 'repo-1',
    backup_type: 'full',
    repository_path: `vms/vm-1/disk-0/${id}.qcow2`,
    created_at: at,
    completed_at: at,
    chain_id: null,
    size_bytes: 100,
    total_bytes: 1000,
    ...other,
  } satisfies NewBackupJob;
}

/** What another program would do to the file of SQLite. */
export function rawSql(path: string, statement: string): readonly unknown[] {
  const database = new Sqlite(path);
  try {
    database.pragma('foreign_keys = ON');
    const prepared = database.prepare(statement);
    if (prepared.reader) return prepared.all();
    prepared.run();
    return [];
  } finally {
    database.close();
  }
}

/** Every table, index and trigger, in the order of their names. */
export function dumpSchema(path: string): string {
  const rows = rawSql(
    path,
    "select sql from sqlite_schema where sql is not null and name not like 'sqlite_%' order by tbl_name, type desc, name",
  );
  return rows.map((row) => `${String((row as { sql: unknown }).sql)};\n`).join('\n');
}
