// Stops a process in the middle of its work on a disk and lets its lease end meanwhile.
// The end of a lease is a date in the catalog, and that is all others see of it: it is moved into the past instead of waiting for it.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { LEASES, listLeases } from '../../src/catalog/leases.ts';
import { openCatalog } from '../../src/catalog/open-catalog.ts';
import { READERS } from '../../src/catalog/readers.ts';
import { sql } from '../../src/catalog/sql.ts';
import { select, update } from '../../src/catalog/table.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { isChainkeepError } from '../../src/plumbing/errors.ts';

const PAST = '2000-01-01T00:00:00.000Z';

/**
 * Stops the process while it holds a lease and ends the lease. False when it ended before it could be caught. A process that is stopped inside
 * of a transaction keeps everybody from the database, which no lease can help: it is let go and caught again.
 */
export async function stopPastLease(home: string, pid: number, hasEnded: () => boolean): Promise<boolean> {
  const catalog = await openCatalog({ url: `sqlite:${home}/catalog.sqlite`, clock: systemClock, busyTimeout: 20 });
  try {
    while (!hasEnded()) {
      if ((await leasesOf(catalog, pid)).length > 0) {
        process.kill(pid, 'SIGSTOP');
        if (await endLeases(catalog, pid)) return true;
        process.kill(pid, 'SIGCONT');
      }
      await sleep(3);
    }
    return false;
  } finally {
    await catalog.close();
  }
}

async function leasesOf(catalog: Catalog, pid: number): Promise<readonly string[]> {
  return (await listLeases(catalog)).filter(({ owner }) => owner.pid === pid).map(({ id }) => id);
}

/** False when the lease was released in the last moment, or the database is not free. */
async function endLeases(catalog: Catalog, pid: number): Promise<boolean> {
  try {
    const ids = await leasesOf(catalog, pid);
    for (const id of ids) await update(catalog, LEASES, { expires_at: PAST }, sql`id = ${id}`);
    const readers = (await select(catalog, READERS, sql`order by id`)).filter(({ owner }) => owner.pid === pid);
    for (const { id } of readers) await update(catalog, READERS, { expires_at: PAST }, sql`id = ${id}`);
    return ids.length > 0;
  } catch (error) {
    if (isChainkeepError(error, 'CATALOG_FAILED')) return false;
    throw error;
  }
}
