// Who is at work with a database, by its own rows: jobs that run, leases, readers, each of a process that is not certainly dead.
// It must not be the only look: a process that has the database open need not have a job.

import { openDatabaseFile } from '../catalog/database-file.ts';
import { heartbeatTime } from '../catalog/job-heartbeats.ts';
import { listUnendedJobs } from '../catalog/job-tracking.ts';
import { listLeases } from '../catalog/leases.ts';
import type { Owner } from '../catalog/owner-fields.ts';
import { currentOwner, judgeOwner } from '../control/owner.ts';
import { type Clock, isoTime } from '../plumbing/clock.ts';
import { isChainkeepError } from '../plumbing/errors.ts';
import { SILENT_AFTER } from './heartbeat.ts';

/** Each as a few words. None for a database whose rows cannot be read: then nobody works with it. */
export async function databaseUsers(path: string, clock: Clock): Promise<readonly string[]> {
  try {
    const catalog = await openDatabaseFile(path, clock, 5000);
    try {
      const self = await currentOwner(catalog);
      const now = await heartbeatTime(catalog);
      const lives = (owner: Owner | null, heardAt: string, silence: number): owner is Owner => {
        if (owner === null) return false;
        const state = judgeOwner(owner, self);
        return state === 'running' || (state === 'unknown' && now - Date.parse(heardAt) <= silence);
      };
      const jobs = await listUnendedJobs(catalog);
      const working = jobs.flatMap(({ id, operation, owner, heard_at }) =>
        lives(owner, heard_at, SILENT_AFTER) ? [`job ${id} (${operation}) of ${nameOf(owner)}`] : [],
      );
      const known = new Set(jobs.map(({ id }) => id));
      const leases = (await listLeases(catalog)).filter(({ job_id, expires_at }) => !known.has(job_id) && expires_at > isoTime(now));
      const writing = leases.flatMap(({ vm_context_id, disk_id, owner, expires_at }) =>
        lives(owner, expires_at, 0) ? [`the lease of ${vm_context_id} disk ${disk_id} of ${nameOf(owner)}`] : [],
      );
      return [...working, ...writing];
    } finally {
      await catalog.close();
    }
  } catch (error) {
    if (isChainkeepError(error, 'CATALOG_FAILED') && error.context.database_code !== 'SQLITE_BUSY') return [];
    throw error;
  }
}

function nameOf({ pid, hostname }: Owner): string {
  return `process ${pid} on ${hostname}`;
}
