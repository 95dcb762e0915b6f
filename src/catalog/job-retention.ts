// How long ended jobs stay in the job log, and the statements that take old ones away, a few at a time.
// It must not touch a job that has not ended, nor one whose children have not.

import { isoTime } from '../plumbing/clock.ts';
import type { Catalog } from './catalog.ts';
import { instant } from './column.ts';
import { constraintOf } from './database-error.ts';
import { JOB_TRACKING, type TrackedJob } from './job-tracking.ts';
import { findSetting, SETTINGS } from './settings.ts';
import { sql } from './sql.ts';
import { insert, query, remove, select, update } from './table.ts';

/** Days; unless `jobs retention` says otherwise. */
export const JOB_RETENTION_DAYS = 90;

const DAY_MS = 86_400_000;
const SETTING = 'job_log';

export interface JobRetention {
  readonly days: number;
  /** Old jobs were last removed more than a day ago, or the last removal did not come to its end. */
  readonly isDue: boolean;
}

export async function findJobRetention(catalog: Catalog): Promise<JobRetention | undefined> {
  const value = await findSetting(catalog, SETTING);
  if (value === undefined) return undefined;
  const { retention_days: days, swept_at: sweptAt } = value;
  const age = typeof sweptAt === 'string' ? catalog.clock.now() - Date.parse(sweptAt) : Number.POSITIVE_INFINITY;
  // A clock that was set back must not put it off for years.
  return { days: typeof days === 'number' ? days : JOB_RETENTION_DAYS, isDue: !(age >= -DAY_MS && age < DAY_MS) };
}

/** What is not given stays as it is. */
export async function setJobRetention(catalog: Catalog, set: { readonly days?: number; readonly sweptAt?: number | null }): Promise<void> {
  const known = await findSetting(catalog, SETTING);
  const value = {
    retention_days: JOB_RETENTION_DAYS,
    swept_at: null,
    ...known,
    ...(set.days !== undefined && { retention_days: set.days, swept_at: null }),
    ...(set.sweptAt !== undefined && { swept_at: set.sweptAt === null ? null : isoTime(set.sweptAt) }),
  };
  if (known) {
    await update(catalog, SETTINGS, { value }, sql`name = ${SETTING}`);
    return;
  }
  try {
    await insert(catalog, SETTINGS, { name: SETTING, value });
  } catch (error) {
    if (constraintOf(error) !== 'unique') throw error; // another first start was faster
    await update(catalog, SETTINGS, { value }, sql`name = ${SETTING}`);
  }
}

/** Jobs without a parent that ended before `endedBefore` (ISO), the oldest first. */
export function listOldJobs(
  catalog: Catalog,
  endedBefore: string,
  after: Pick<TrackedJob, 'created_at' | 'id'> | undefined,
  limit: number,
): Promise<readonly TrackedJob[]> {
  const before = instant.encode(endedBefore, 'completed_at', catalog.dialect);
  const at = instant.encode(after?.created_at ?? '1970-01-01T00:00:00.000Z', 'created_at', catalog.dialect);
  return select(
    catalog,
    JOB_TRACKING,
    // No job ends before it begins: the first condition is for the index.
    sql`where created_at < ${before} and (created_at > ${at} or (created_at = ${at} and id > ${after?.id ?? ''}))
      and parent_job_id is null and status in ('completed', 'failed', 'cancelled') and completed_at < ${before}
      order by created_at, id limit ${limit}`,
  );
}

/** Takes away at most `most` of the oldest lines of a job; answers how many there were. */
export async function removeOldestEvents(catalog: Catalog, jobId: string, most: number): Promise<number> {
  const last = await query(
    catalog,
    { ts: instant },
    sql`select ts from log_events where job_id = ${jobId} order by ts limit 1 offset ${most - 1}`,
  );
  const until = last[0] && instant.encode(last[0].ts, 'ts', catalog.dialect);
  const events = { name: 'log_events', columns: {} };
  return remove(catalog, events, until === undefined ? sql`job_id = ${jobId}` : sql`job_id = ${jobId} and ts <= ${until}`);
}

/** Its steps go with it. */
export async function removeEndedJob(catalog: Catalog, jobId: string): Promise<void> {
  await remove(catalog, JOB_TRACKING, sql`id = ${jobId} and status in ('completed', 'failed', 'cancelled')`);
}
