// The table of policies, as far as backups refer to it.

import type { Catalog } from './catalog.ts';
import { sql } from './sql.ts';

export async function listPolicyIds(catalog: Catalog): Promise<ReadonlySet<string>> {
  const rows = await catalog.all(sql`select id from backup_policies`);
  return new Set(rows.map((row) => String(row.id)));
}
