// From an empty database on MariaDB to the current tables: once, by several at a time, interrupted anywhere, and never backwards.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openCatalog } from '../../../src/catalog/open-catalog.ts';
import { SCHEMA_VERSION } from '../../../src/catalog/schema-version.ts';
import { systemClock } from '../../../src/plumbing/clock.ts';
import { type DatabasePlace, onServer, openScratch, scratchPlace } from '../scratch-catalog.ts';

const OPENER = fileURLToPath(new URL('../open-process.ts', import.meta.url));
const GOLDEN = '../golden/mariadb-tables.sql';

async function open(place: DatabasePlace): Promise<void> {
  await (await openCatalog({ ...place, clock: systemClock })).close();
}

async function openInProcess(place: DatabasePlace, killAt?: number): Promise<{ end: unknown; output: string }> {
  const env = { ...process.env, PASSWORD: place.password, KILL_AT_STATEMENT: String(killAt ?? '') };
  const child = spawn(process.execPath, [OPENER, place.url], { env, stdio: ['ignore', 'pipe', 'inherit'], timeout: 60_000 });
  let output = '';
  child.stdout.on('data', (text) => {
    output += text;
  });
  const [code, signal] = await once(child, 'close');
  return { end: signal ?? code, output };
}

/** As the server itself says it, in the order of the tables' names. */
async function dumpTables(place: DatabasePlace): Promise<string> {
  const tables = await onServer(
    place,
    'select table_name as name from information_schema.tables where table_schema = database() order by 1',
  );
  const texts: string[] = [];
  for (const table of tables) {
    const [created] = await onServer(place, `show create table ${field(table, 'name')}`);
    texts.push(`${field(created, 'Create Table')};\n`);
  }
  // The next number of a serial column is no part of the schema.
  return texts.join('\n').replace(/ AUTO_INCREMENT=\d+/g, '');
}

function field(row: unknown, name: string): unknown {
  return typeof row === 'object' && row !== null ? Object.entries(row).find(([key]) => key === name)?.[1] : undefined;
}

async function versionOf(place: DatabasePlace): Promise<unknown> {
  return field((await onServer(place, 'select version from chainkeep_schema'))[0], 'version');
}

describe('a fresh database', () => {
  it('has the tables of the golden dump', async () => {
    const { place } = await openScratch();
    await expect(await dumpTables(place)).toMatchFileSnapshot(GOLDEN);
    expect(await versionOf(place)).toBe(SCHEMA_VERSION);
  });

  it('tells names apart by every character, in every table', async () => {
    const { place } = await openScratch();
    const others = await onServer(
      place,
      "select table_name from information_schema.tables where table_schema = database() and table_collation <> 'utf8mb4_nopad_bin'",
    );
    expect(others).toEqual([]);
  });

  it('is opened by several processes at once: all succeed, and agree on what was made once', async () => {
    const place = await scratchPlace();
    const runs = await Promise.all(Array.from({ length: 4 }, () => openInProcess(place)));
    expect(runs.map((run) => run.end)).toEqual([0, 0, 0, 0]);
    expect(new Set(runs.map((run) => run.output)).size).toBe(1);
    await expect(await dumpTables(place)).toMatchFileSnapshot(GOLDEN);
  });
});

describe('a kill in the middle', () => {
  // Each step is a statement and two that note its number.
  it.each([1, 2, 3, 4, 5, 30, 90, 150])('at statement %i of the migration: the next start finishes it', async (statement) => {
    const place = await scratchPlace();
    expect((await openInProcess(place, statement)).end).toBe('SIGKILL');
    expect((await openInProcess(place)).end).toBe(0);
    await expect(await dumpTables(place)).toMatchFileSnapshot(GOLDEN);
  });

  it('a database of any older version is brought up to date', async () => {
    const { place } = await openScratch();
    for (const version of [0, 1, 30, SCHEMA_VERSION - 1]) {
      // A step may be done and its number not written.
      await onServer(place, `update chainkeep_schema set version = ${version}`);
      await open(place);
      expect(await versionOf(place)).toBe(SCHEMA_VERSION);
    }
    await expect(await dumpTables(place)).toMatchFileSnapshot(GOLDEN);
  });
});

describe('refused', () => {
  it('a newer schema, and left as it is', async () => {
    const { place } = await openScratch();
    await onServer(place, `update chainkeep_schema set version = ${SCHEMA_VERSION + 1}`);
    await expect(open(place)).rejects.toMatchObject({ code: 'CATALOG_TOO_NEW', context: { schema_version: SCHEMA_VERSION + 1 } });
    expect(await versionOf(place)).toBe(SCHEMA_VERSION + 1);
  });

  it('the database of another program', async () => {
    const place = await scratchPlace();
    await onServer(place, 'create table music (title text)');
    await expect(open(place)).rejects.toMatchObject({ code: 'CATALOG_FAILED', message: expect.stringContaining('another program') });
    expect(await onServer(place, 'show tables')).toHaveLength(1);
  });

  it('a wrong password, a database that is not there, a server that is not there: each with its advice', async () => {
    const place = await scratchPlace();
    const { origin } = new URL(place.url.replace('mariadb:', 'http:'));
    await expect(open({ ...place, password: 'wrong' })).rejects.toMatchObject({
      advice: expect.stringContaining('CHAINKEEP_DATABASE_PASSWORD'),
    });
    await expect(open({ ...place, url: `${place.url}_not` })).rejects.toMatchObject({ advice: expect.stringContaining('create database') });
    const elsewhere = place.url.replace(new URL(origin).port, '1');
    await expect(open({ ...place, url: elsewhere })).rejects.toMatchObject({ code: 'CATALOG_FAILED', retryable: true });
  });

  it.each([
    'mariadb://host/database',
    'mariadb://user@host',
    'mariadb://user@host/a/b',
    'mariadb:///database',
    'mariadb://user@host/database?colour=red',
    'mariadb://user@host/database?tls=maybe',
    'mariadb://user:password@host/database',
    'mariadb://user@host/database?ca=/not/there',
  ])('the URL %s', async (url) => {
    const refused = open({ url, password: undefined });
    await expect(refused).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    await expect(refused).rejects.not.toMatchObject({ message: expect.stringContaining('user:password') });
  });
});
