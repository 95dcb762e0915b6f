// The table of settings: what this installation remembers of itself.
// It must not hold a secret.

import type { Catalog } from './catalog.ts';
import { instant, type JsonObject, json, text } from './column.ts';
import { constraintOf } from './database-error.ts';
import { sql } from './sql.ts';
import { defineTable, insert, selectOne, update } from './table.ts';

export const SETTINGS = defineTable('settings', { name: text(191), value: json, created_at: instant, updated_at: instant });

export async function findSetting(catalog: Catalog, name: string): Promise<JsonObject | undefined> {
  return (await selectOne(catalog, SETTINGS, sql`where name = ${name}`))?.value;
}

/** The value that is there, else that of `make`: of several processes that ask at once, all get the same. */
export async function findOrMakeSetting(catalog: Catalog, name: string, make: () => JsonObject): Promise<JsonObject> {
  const known = await findSetting(catalog, name);
  if (known) return known;
  const made = make();
  try {
    await insert(catalog, SETTINGS, { name, value: made });
    return made;
  } catch (error) {
    if (constraintOf(error) !== 'unique') throw error;
    return (await findSetting(catalog, name)) ?? made;
  }
}

/** Makes the value this one, whether there was one or not. Call it in a transaction. */
export async function putSetting(unit: Catalog, name: string, value: JsonObject): Promise<void> {
  if (await findSetting(unit, name)) await update(unit, SETTINGS, { value }, sql`name = ${name}`);
  else await insert(unit, SETTINGS, { name, value });
}
