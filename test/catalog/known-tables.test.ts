// The check of a database looks at every table that the program reads.

import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { checkChains, checkRows, checkStorage } from '../../src/catalog/check-database.ts';
import { KNOWN_TABLES } from '../../src/catalog/known-tables.ts';
import { openScratch } from './scratch-catalog.ts';

describe('the check of a database', () => {
  it('knows every table that is defined', async () => {
    const folder = new URL('../../src/catalog/', import.meta.url);
    const defined = new Set<string>();
    for (const file of readdirSync(folder).filter((name) => name.endsWith('.ts'))) {
      const module: Record<string, unknown> = await import(new URL(file, folder).href);
      for (const [name, value] of Object.entries(module)) {
        if (!/^[A-Z_]+$/.test(name) || typeof value !== 'object' || value === null || !('columns' in value) || !('name' in value)) continue;
        defined.add(String(value.name));
      }
    }
    expect(defined.size).toBeGreaterThan(10);
    expect(KNOWN_TABLES.map(({ table }) => table.name).toSorted()).toEqual([...defined].toSorted());
  });

  it('finds nothing in a fresh one, and a column that tells the rows of each table apart', async () => {
    const { catalog } = await openScratch();
    for (const faults of [checkStorage(catalog), checkRows(catalog, () => undefined), checkChains(catalog)]) {
      for await (const fault of faults) expect.unreachable(fault.message);
    }
    for (const { table, key } of KNOWN_TABLES) expect(Object.keys(table.columns), table.name).toContain(key);
  });
});
