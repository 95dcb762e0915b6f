// Transactions: all or nothing, one at a time, also between processes; and what is durable when.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { openCatalog } from '../../src/catalog/open-catalog.ts';
import { findOrMakeSetting, findSetting, SETTINGS } from '../../src/catalog/settings.ts';
import { sql } from '../../src/catalog/sql.ts';
import { insert, update } from '../../src/catalog/table.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { ON_MARIADB, openScratch } from './scratch-catalog.ts';

const COUNTER = fileURLToPath(new URL('./count-process.ts', import.meta.url));

function put(catalog: Catalog, name: string): Promise<void> {
  return insert(catalog, SETTINGS, { name, value: { n: 0 } });
}

async function names(catalog: Catalog): Promise<readonly unknown[]> {
  return (await catalog.all(sql`select name from settings order by name`)).map((row) => row.name);
}

describe('a transaction', () => {
  it('undoes everything when its work throws, also what a transaction inside did', async () => {
    const { catalog } = await openScratch();
    await put(catalog, 'before');
    const work = catalog.transaction(async (unit) => {
      await put(unit, 'a');
      await unit.transaction((inner) => put(inner, 'b'));
      await put(unit, 'before');
    });
    await expect(work).rejects.toMatchObject({ code: 'CATALOG_FAILED', context: { constraint: 'unique' } });
    expect(await names(catalog)).toEqual(['before']);
    await put(catalog, 'after');
    expect(await names(catalog)).toEqual(['after', 'before']);
  });

  it('makes everybody else wait, in the order in which they came', async () => {
    const { catalog } = await openScratch();
    const order: string[] = [];
    const transaction = (name: string) =>
      catalog.transaction(async (unit) => {
        order.push(`${name} begins`);
        await put(unit, name);
        await new Promise((resolve) => setTimeout(resolve, 20));
        order.push(`${name} ends`);
      });
    const first = transaction('a');
    const read = names(catalog).then((found) => order.push(`read ${found.length}`));
    await Promise.all([first, read, transaction('b')]);
    expect(order.filter((entry) => !entry.startsWith('read'))).toEqual(['a begins', 'a ends', 'b begins', 'b ends']);
    // On SQLite the read came while the first was at work, and waited for its end; on MariaDB it has a connection of its own.
    expect(order).toContainEqual(expect.stringMatching(ON_MARIADB ? /^read [012]$/ : /^read [12]$/));
    expect(await names(catalog)).toEqual(['a', 'b']);
  });

  it('that has ended takes no more statements', async () => {
    const { catalog } = await openScratch();
    const kept = await catalog.transaction(async (unit) => unit);
    await expect(put(kept, 'late')).rejects.toMatchObject({ code: 'INTERNAL' });
    expect(await names(catalog)).toEqual([]);
  });

  it('of several processes at once: no update is lost', async () => {
    const { catalog, place } = await openScratch();
    await put(catalog, 'counter');
    const children = Array.from({ length: 3 }, () =>
      spawn(process.execPath, [COUNTER, place.url, '50'], {
        stdio: 'inherit',
        timeout: 60_000,
        env: { ...process.env, PASSWORD: place.password },
      }),
    );
    const codes = await Promise.all(children.map(async (child) => (await once(child, 'close'))[0]));
    expect(codes).toEqual([0, 0, 0]);
    expect(await findSetting(catalog, 'counter')).toEqual({ n: 150 });
  });

  it('gives up with a clear error when another process keeps the write lock', async () => {
    const { place } = await openScratch();
    const patient = await openCatalog({ ...place, clock: systemClock });
    const hasty = await openCatalog({ ...place, clock: systemClock, busyTimeout: 50 });
    await patient.transaction(async (unit) => {
      await put(unit, 'a');
      await expect(hasty.transaction((other) => put(other, 'b'))).rejects.toMatchObject({ code: 'CATALOG_FAILED', retryable: true });
      expect(await names(hasty)).toEqual([]);
    });
    expect(await names(hasty)).toEqual(['a']);
    await patient.close();
    await hasty.close();
  });
});

describe.skipIf(ON_MARIADB)('what is durable', () => {
  it('the settings of the connection: foreign keys, a write-ahead log, full synchronisation for whatever follows a line that need not be', async () => {
    const { catalog } = await openScratch();
    const pragmas = async () => [
      await catalog.all(sql`pragma foreign_keys`),
      await catalog.all(sql`pragma journal_mode`),
      await catalog.all(sql`pragma synchronous`),
    ];
    const expected = [[{ foreign_keys: 1 }], [{ journal_mode: 'wal' }], [{ synchronous: 2 }]];
    expect(await pragmas()).toEqual(expected);
    const line = () => update(catalog, SETTINGS, { value: {} }, sql`name = 'x'`, { durable: false });
    const refused = () =>
      catalog
        .run({ sql: 'insert into settings (name, value) values (1, 2, 3)', parameters: [] }, { durable: false })
        .catch(() => undefined);
    for (const before of [line, refused]) {
      await before();
      await update(catalog, SETTINGS, { value: {} }, sql`name = 'x'`);
      expect(await pragmas()).toEqual(expected);
      await before();
      await catalog.transaction(async (unit) => expect(await unit.all(sql`pragma synchronous`)).toEqual(expected[2]));
    }
  });
});

describe('a setting that is made once', () => {
  it('is the same for everybody', async () => {
    const { catalog, raw } = await openScratch();
    const made = await Promise.all([1, 2, 3].map((n) => findOrMakeSetting(catalog, 'id', () => ({ n }))));
    expect(new Set(made.map((value) => value.n)).size).toBe(1);
    expect(await findOrMakeSetting(catalog, 'id', () => ({ n: 9 }))).toEqual(made[0]);
    expect(await raw('select count(*) as n from settings')).toEqual([{ n: 1 }]);
  });
});
