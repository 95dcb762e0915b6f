// The table of secrets: what a repository's store needs to know and nobody may read. Only ciphertext comes here.
// It must not know keys: control/secrets.ts seals and opens.

import type { Catalog } from './catalog.ts';
import { instant, longText, text } from './column.ts';
import { list, sql } from './sql.ts';
import { defineTable, insert, remove, select, type TableRow, update } from './table.ts';

export const SECRETS = defineTable('secrets', {
  id: text(64),
  repository_id: text(64),
  /** The setting of the repository that it is the value of. */
  name: text(64),
  /** Which key it is sealed with. */
  key_id: text(64),
  sealed: longText,
  created_at: instant,
  updated_at: instant,
});

type SecretRow = TableRow<typeof SECRETS>;

/** What is stored of one secret. */
export type SealedSecret = Pick<SecretRow, 'id' | 'repository_id' | 'name' | 'key_id' | 'sealed'>;

/** In the place of the one that this setting of the repository had. */
export async function putSecret(catalog: Catalog, secret: SealedSecret & Pick<SecretRow, 'created_at'>): Promise<void> {
  await remove(catalog, SECRETS, sql`repository_id = ${secret.repository_id} and name = ${secret.name}`);
  await insert(catalog, SECRETS, secret);
}

/** All, or those of one repository. */
export function listSecrets(catalog: Catalog, repositoryId?: string): Promise<readonly SealedSecret[]> {
  const rest = repositoryId === undefined ? sql`order by id` : sql`where repository_id = ${repositoryId} order by id`;
  return select(catalog, SECRETS, rest);
}

export async function resealSecret(catalog: Catalog, id: string, sealed: Pick<SecretRow, 'key_id' | 'sealed'>): Promise<void> {
  await update(catalog, SECRETS, sealed, sql`id = ${id}`);
}

/** Answers how many there were. */
export async function removeSecrets(catalog: Catalog, ids: readonly string[]): Promise<number> {
  return ids.length === 0 ? 0 : remove(catalog, SECRETS, sql`id in ${list(ids)}`);
}
