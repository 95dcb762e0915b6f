// Which processes are at work on a repository at this moment: those that hold a lease there write, those that hold a reader's note read.
// It must not judge whether one of them is alive.

import { isoTime } from '../plumbing/clock.ts';
import type { Catalog } from './catalog.ts';
import { instant } from './column.ts';
import { LEASES } from './leases.ts';
import type { Owner } from './owner-fields.ts';
import { READERS } from './readers.ts';
import { sql } from './sql.ts';
import { query } from './table.ts';

export interface RepositoryUsers {
  readonly writing: readonly Owner[];
  readonly reading: readonly Owner[];
}

/** Only what has not expired; a process with several jobs is there as often. */
export async function listRepositoryUsers(catalog: Catalog, repositoryId: string): Promise<RepositoryUsers> {
  const now = instant.encode(isoTime(catalog.clock.now()), 'expires_at', catalog.dialect);
  const writing = { owner: LEASES.columns.owner };
  const reading = { owner: READERS.columns.owner };
  const writers = await query(
    catalog,
    writing,
    sql`select owner from leases where repository_id = ${repositoryId} and expires_at > ${now}`,
  );
  const readers = await query(
    catalog,
    reading,
    sql`select owner from readers where repository_id = ${repositoryId} and expires_at > ${now}`,
  );
  return { writing: writers.map(({ owner }) => owner), reading: readers.map(({ owner }) => owner) };
}
