// From nothing to the current tables: once, twice at a time, interrupted anywhere, and never backwards.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Sqlite from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { BACKUP_CHAINS } from '../../src/catalog/backup-chains.ts';
import { BACKUP_JOBS } from '../../src/catalog/backup-jobs.ts';
import { BACKUP_REPOSITORIES } from '../../src/catalog/backup-repositories.ts';
import { JOB_HEARTBEATS } from '../../src/catalog/job-heartbeats.ts';
import { JOB_STEPS } from '../../src/catalog/job-steps.ts';
import { JOB_TRACKING } from '../../src/catalog/job-tracking.ts';
import { LEASES } from '../../src/catalog/leases.ts';
import { LOG_EVENTS } from '../../src/catalog/log-events.ts';
import { STEPS } from '../../src/catalog/migrations/migrate-catalog.ts';
import { schemaWords } from '../../src/catalog/migrations/portability.ts';
import { openCatalog } from '../../src/catalog/open-catalog.ts';
import { SCHEMA_VERSION } from '../../src/catalog/schema-version.ts';
import { SECRETS } from '../../src/catalog/secrets.ts';
import { SETTINGS } from '../../src/catalog/settings.ts';
import { VM_CONTEXTS } from '../../src/catalog/vm-contexts.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { dumpSchema, openScratch, rawSql, scratchFolder } from './scratch-catalog.ts';

const OPENER = fileURLToPath(new URL('./open-process.ts', import.meta.url));
const GOLDEN = './golden/sqlite-schema.sql';

function open(path: string) {
  return openCatalog({ url: `sqlite:${path}`, clock: systemClock });
}

/** Opens the database in a process of its own; answers its exit code or signal, and what it printed. */
async function openInProcess(path: string, wrapper: readonly string[] = [], killAt?: number): Promise<{ end: unknown; output: string }> {
  const [program = process.execPath, ...words] = [...wrapper, process.execPath, OPENER, `sqlite:${path}`];
  const child = spawn(program, words, {
    env: { ...process.env, KILL_AT_STATEMENT: String(killAt ?? '') },
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 20_000,
  });
  let output = '';
  child.stdout.on('data', (text) => {
    output += text;
  });
  const [code, signal] = await once(child, 'close');
  return { end: signal ?? code, output };
}

describe('a fresh database', () => {
  it('has the tables of the golden dump', async () => {
    const { path } = await openScratch();
    await expect(dumpSchema(path)).toMatchFileSnapshot(GOLDEN);
    expect(rawSql(path, 'pragma user_version')).toEqual([{ user_version: SCHEMA_VERSION }]);
  });

  it('is readable by its owner alone, in a folder made for it', async () => {
    const folder = join(await scratchFolder(), 'new', 'home');
    const catalog = await open(join(folder, 'catalog.sqlite'));
    await catalog.run({ sql: "insert into settings (name, value) values ('a', '{}')", parameters: [] });
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    for (const suffix of ['', '-wal', '-shm']) expect(statSync(join(folder, `catalog.sqlite${suffix}`)).mode & 0o777).toBe(0o600);
    await catalog.close();
  });

  it('has for every table as the program knows it the same columns, null where it may be null', async () => {
    const { path } = await openScratch();
    const tables = [
      BACKUP_REPOSITORIES,
      VM_CONTEXTS,
      BACKUP_JOBS,
      BACKUP_CHAINS,
      JOB_TRACKING,
      JOB_STEPS,
      JOB_HEARTBEATS,
      LOG_EVENTS,
      LEASES,
      SECRETS,
      SETTINGS,
    ];
    for (const table of tables) {
      const real = rawSql(path, `select name, "notnull" as required from pragma_table_info('${table.name}')`);
      const known = Object.entries(table.columns).map(([name, column]) => {
        // A column that is not nullable refuses null; one that is lets it through.
        let required = 0;
        try {
          column.decode(null, name);
        } catch {
          required = 1;
        }
        return { name, required };
      });
      expect(known, table.name).toEqual(real);
    }
  });

  it('has as many steps as the version says, and each can be repeated', async () => {
    expect(STEPS.length).toBe(SCHEMA_VERSION);
    const path = join(await scratchFolder(), 'twice.sqlite');
    const database = new Sqlite(path);
    const words = schemaWords('sqlite');
    for (const step of STEPS) {
      const statement = step(words)?.compile().sql ?? 'select 1';
      database.exec(statement);
      database.exec(statement);
    }
    database.close();
    await expect(dumpSchema(path)).toMatchFileSnapshot(GOLDEN);
  });

  it('is described for MariaDB by the same steps', async () => {
    const words = schemaWords('mariadb');
    const statements = STEPS.flatMap((step) => step(words)?.compile() ?? []);
    expect(statements.every((statement) => statement.parameters.length === 0)).toBe(true);
    await expect(statements.map((statement) => `${statement.sql};\n`).join('\n')).toMatchFileSnapshot('./golden/mariadb-schema.sql');
  });
});

describe('several processes', () => {
  it('open a new database at once: all succeed, and agree on what was made once', async () => {
    const path = join(await scratchFolder(), 'catalog.sqlite');
    const runs = await Promise.all(Array.from({ length: 6 }, () => openInProcess(path)));
    expect(runs.map((run) => run.end)).toEqual([0, 0, 0, 0, 0, 0]);
    expect(new Set(runs.map((run) => run.output)).size).toBe(1);
    await expect(dumpSchema(path)).toMatchFileSnapshot(GOLDEN);
  });
});

describe('a kill in the middle', () => {
  it.each([1, 2, 20, 55, 110, 111])('at statement %i of the migration: the next start finishes it', async (statement) => {
    const path = join(await scratchFolder(), 'catalog.sqlite');
    expect((await openInProcess(path, [], statement)).end).toBe('SIGKILL');
    expect((await openInProcess(path)).end).toBe(0);
    await expect(dumpSchema(path)).toMatchFileSnapshot(GOLDEN);
  });

  it.each([1, 4, 30, 90])('at write %i to the files: the next start finishes it', async (count) => {
    const path = join(await scratchFolder(), 'catalog.sqlite');
    const strace = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=pwrite64', '-e', `inject=pwrite64:signal=KILL:when=${count}`];
    expect((await openInProcess(path, strace)).end).toBe('SIGKILL');
    expect((await openInProcess(path)).end).toBe(0);
    await expect(dumpSchema(path)).toMatchFileSnapshot(GOLDEN);
  });

  it('a database of any older version is brought up to date', async () => {
    const path = join(await scratchFolder(), 'catalog.sqlite');
    for (const version of [0, 1, 30, SCHEMA_VERSION - 1]) {
      await (await open(path)).close();
      // As on MariaDB, where a step may be done and its number not written.
      rawSql(path, `pragma user_version = ${version}`);
      await (await open(path)).close();
      expect(rawSql(path, 'pragma user_version')).toEqual([{ user_version: SCHEMA_VERSION }]);
      await expect(dumpSchema(path)).toMatchFileSnapshot(GOLDEN);
    }
  });
});

describe('refused', () => {
  it('a newer schema, and left as it is', async () => {
    const path = join(await scratchFolder(), 'catalog.sqlite');
    await (await open(path)).close();
    rawSql(path, `pragma user_version = ${SCHEMA_VERSION + 1}`);
    await expect(open(path)).rejects.toMatchObject({ code: 'CATALOG_TOO_NEW', context: { schema_version: SCHEMA_VERSION + 1 } });
    expect(rawSql(path, 'pragma user_version')).toEqual([{ user_version: SCHEMA_VERSION + 1 }]);
  });

  it('the database of another program, a file that is none, a folder, a place that cannot be', async () => {
    const folder = await scratchFolder();
    const foreign = join(folder, 'foreign.sqlite');
    rawSql(foreign, 'create table music (title text)');
    rawSql(foreign, 'pragma user_version = 3');
    await expect(open(foreign)).rejects.toMatchObject({ code: 'CATALOG_FAILED', message: expect.stringContaining('another program') });
    expect(rawSql(foreign, 'select name from sqlite_schema')).toEqual([{ name: 'music' }]);
    writeFileSync(join(folder, 'text'), 'this is not a database, and long enough to be looked at as if it were one'.repeat(20));
    await expect(open(join(folder, 'text'))).rejects.toMatchObject({ code: 'CATALOG_FAILED', context: { database_code: 'SQLITE_NOTADB' } });
    mkdirSync(join(folder, 'dir'));
    await expect(open(join(folder, 'dir'))).rejects.toMatchObject({ code: 'CATALOG_FAILED' });
    await expect(open(join(folder, 'text', 'below', 'a.sqlite'))).rejects.toMatchObject({ code: 'CATALOG_FAILED' });
  });

  it.each(['postgres://x', 'sqlite:', 'sqlite:/tmp/blank ', '/tmp/x.sqlite'])('the URL "%s"', async (url) => {
    await expect(openCatalog({ url, clock: systemClock })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });
});
