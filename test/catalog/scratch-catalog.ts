// A database of its own for each test, and rows to fill it with.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { onTestFinished } from 'vitest';
import type { NewBackupJob } from '../../src/catalog/backup-jobs.ts';
import { insertRepository } from '../../src/catalog/backup-repositories.ts';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { openCatalog } from '../../src/catalog/open-catalog.ts';
import { insertVmContext } from '../../src/catalog/vm-contexts.ts';
import { type Clock, isoTime, systemClock } from '../../src/plumbing/clock.ts';

export async function scratchFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'chainkeep-catalog-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export interface Scratch {
  readonly catalog: Catalog;
  readonly path: string;
}

export async function openScratch(clock: Clock = systemClock): Promise<Scratch> {
  const path = join(await scratchFolder(), 'catalog.sqlite');
  const catalog = await openCatalog({ url: `sqlite:${path}`, clock });
  onTestFinished(() => catalog.close());
  return { catalog, path };
}

/** A clock that stands still until it is moved. */
export interface SetClock extends Clock {
  advance(milliseconds: number): void;
}

export function setClock(start = Date.parse('2026-11-22T13:00:00Z')): SetClock {
  let now = start;
  return {
    now: () => now,
    monotonic: () => now - start,
    advance: (milliseconds) => {
      now += milliseconds;
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

/** What another program would do to the file. */
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
