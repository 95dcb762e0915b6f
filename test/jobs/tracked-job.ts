// A job in the job log that nobody runs.

import type { Catalog } from '../../src/catalog/catalog.ts';
import * as jobs from '../../src/catalog/job-tracking.ts';
import { sql } from '../../src/catalog/sql.ts';
import { currentOwner } from '../../src/control/owner.ts';
import { isoTime, newId, systemClock } from '../../src/plumbing/clock.ts';

/** Of this process, and running. Answers its id. */
export async function insertTrackedJob(
  catalog: Catalog,
  job: Pick<jobs.NewTrackedJob, 'job_type' | 'operation' | 'metadata'>,
): Promise<string> {
  const id = newId(systemClock);
  const owner = await currentOwner(catalog);
  await jobs.insertTrackedJob(catalog, { ...job, id, status: 'running', owner, created_at: isoTime(systemClock.now()) });
  return id;
}

export async function endTrackedJob(catalog: Catalog, id: string): Promise<void> {
  await catalog.run(sql`update job_tracking set status = 'failed' where id = ${id}`);
}
