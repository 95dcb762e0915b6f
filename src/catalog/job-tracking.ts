// The table of jobs: everything that changed something, who ran it, and how it ended.
// It must not run anything: jobs/runner.ts does.

import { ChainkeepError } from '../plumbing/errors.ts';
import type { Catalog, RunOptions } from './catalog.ts';
import { instant, integer, json, longText, nullable, oneOf, text } from './column.ts';
import { type Owner, ownerColumn } from './owner-fields.ts';
import { list, sql, where } from './sql.ts';
import { defineTable, insert, select, selectOne, type TableRow, update } from './table.ts';

export const JOB_TRACKING = defineTable('job_tracking', {
  id: text(64),
  parent_job_id: nullable(text(64)),
  job_type: text(64),
  operation: text(191),
  status: oneOf(['pending', 'running', 'completed', 'failed', 'cancelled']),
  owner: nullable(ownerColumn),
  context_id: nullable(text(191)),
  external_job_id: nullable(text(191)),
  metadata: nullable(json),
  percent_complete: integer,
  error_message: nullable(longText),
  created_at: instant,
  started_at: nullable(instant),
  completed_at: nullable(instant),
  canceled_at: nullable(instant),
  updated_at: instant,
});

export type TrackedJob = TableRow<typeof JOB_TRACKING>;
export type JobStatus = TrackedJob['status'];

export type NewTrackedJob = Pick<TrackedJob, 'id' | 'job_type' | 'operation' | 'created_at'> & Partial<TrackedJob>;

export function insertTrackedJob(catalog: Catalog, job: NewTrackedJob): Promise<void> {
  return insert(catalog, JOB_TRACKING, job);
}

export async function updateTrackedJob(catalog: Catalog, id: string, set: Partial<TrackedJob>, options?: RunOptions): Promise<void> {
  await update(catalog, JOB_TRACKING, set, sql`id = ${id}`, options);
}

/** The newest first. */
export function listTrackedJobs(catalog: Catalog, filter: { readonly statuses?: readonly JobStatus[] }): Promise<readonly TrackedJob[]> {
  const condition = filter.statuses === undefined ? undefined : sql`status in ${list(filter.statuses)}`;
  return select(catalog, JOB_TRACKING, sql`${where([condition])} order by created_at desc, id desc`);
}

/** By id or by an unambiguous beginning of one. Throws JOB_NOT_FOUND, also when several fit. */
export async function resolveTrackedJob(catalog: Catalog, beginning: string): Promise<TrackedJob> {
  const exact = await selectOne(catalog, JOB_TRACKING, sql`where id = ${beginning}`);
  if (exact) return exact;
  const [only, ...others] = await select(
    catalog,
    JOB_TRACKING,
    sql`where id >= ${beginning} and id < ${`${beginning}~`} order by id limit 2`,
  );
  if (only && others.length === 0 && beginning !== '') return only;
  const what = only ? `several job ids begin with "${beginning}"` : `no job has the id "${beginning}"`;
  throw new ChainkeepError('JOB_NOT_FOUND', what, {
    advice: only ? 'give more characters of the id' : 'see what there is with: chainkeep jobs',
    context: { job_id: beginning },
  });
}

/** Makes `to` the owner of a job that has not ended and belongs to `from`. False when it ended, or when somebody else was faster. */
export async function claimTrackedJob(catalog: Catalog, id: string, from: Owner, to: Owner): Promise<boolean> {
  const was = ownerColumn.encode(from, 'owner', catalog.dialect);
  const condition = sql`id = ${id} and owner = ${was} and status in ('pending', 'running')`;
  return (await update(catalog, JOB_TRACKING, { owner: to }, condition)) === 1;
}
