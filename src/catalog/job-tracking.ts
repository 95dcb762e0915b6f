// The table of jobs: everything that changed something, who ran it, and how it ended.
// It must not run anything: jobs/runner.ts does.

import { isoTime } from '../plumbing/clock.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import type { Catalog, RunOptions, Sql, SqlValue } from './catalog.ts';
import { instant, integer, json, longText, nullable, oneOf, text } from './column.ts';
import { beginHeartbeat, endHeartbeat, JOB_HEARTBEATS } from './job-heartbeats.ts';
import { type Owner, ownerColumn } from './owner-fields.ts';
import { list, literal, sql, where } from './sql.ts';
import { columnList, defineTable, insert, query, select, selectOne, type TableRow, update } from './table.ts';

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

/** A job that has an owner has a heartbeat from its beginning. */
export function insertTrackedJob(catalog: Catalog, job: NewTrackedJob): Promise<void> {
  return catalog.transaction(async (unit) => {
    await insert(unit, JOB_TRACKING, job);
    if (job.owner) await beginHeartbeat(unit, job.id);
  });
}

/** Only for a job that nobody else may have taken over: `changeOwnJob` is for the process that runs it. */
export async function updateTrackedJob(catalog: Catalog, id: string, set: Partial<TrackedJob>, options?: RunOptions): Promise<void> {
  await update(catalog, JOB_TRACKING, set, sql`id = ${id}`, options);
}

/**
 * Runs `change` while the job is certainly that of `owner`: as one unit, in which nobody else can settle it. Throws JOB_LOST when another process
 * has taken it over, has settled it, or has put another database in this one's place.
 */
export function changeOwnJob<T>(catalog: Catalog, id: string, owner: Owner, change: (unit: Catalog) => Promise<T>): Promise<T> {
  return catalog.transaction(async (unit) => {
    if (!isOwn(await holdJob(unit, id), owner)) throw jobLost(id);
    return change(unit);
  });
}

/** The percentage of an own job: many, and worth no transaction each. */
export async function updateOwnPercentage(catalog: Catalog, id: string, owner: Owner, percent: number): Promise<void> {
  const condition = sql`id = ${id} and status = 'running' and owner = ${ownerText(owner)}`;
  await update(catalog, JOB_TRACKING, { percent_complete: percent }, condition, { durable: false });
}

/** Nobody else changes the row until the transaction ends; on SQLite that holds the write lock from its start. */
async function holdJob(unit: Catalog, id: string): Promise<Pick<TrackedJob, 'status' | 'owner'> | undefined> {
  const hold = literal(unit.dialect === 'mariadb' ? 'for update' : '');
  return (await query(unit, OWNED, sql`select status, owner from job_tracking where id = ${id} ${hold}`))[0];
}

const OWNED = { status: JOB_TRACKING.columns.status, owner: JOB_TRACKING.columns.owner };

function isOwn(job: Pick<TrackedJob, 'status' | 'owner'> | undefined, owner: Owner): boolean {
  const unended = job?.status === 'running' || job?.status === 'pending';
  return unended && job.owner !== null && ownerText(job.owner) === ownerText(owner);
}

export interface OwnJobState {
  /** False when another process has taken the job over, or settled it. */
  readonly held: boolean;
  /** Why somebody wants it to stop; undefined when nobody does. */
  readonly cancel: string | undefined;
}

/** What the process that runs a job asks every second. */
export async function lookAtOwnJob(catalog: Catalog, id: string, owner: Owner): Promise<OwnJobState> {
  const { cancel_requested_at, cancel_reason } = JOB_HEARTBEATS.columns;
  const [row] = await query(
    catalog,
    { ...OWNED, cancel_requested_at, cancel_reason },
    sql`select j.status, j.owner, h.cancel_requested_at, h.cancel_reason
      from job_tracking j left join job_heartbeats h on h.job_id = j.id where j.id = ${id}`,
  );
  return { held: isOwn(row, owner), cancel: row?.cancel_requested_at ? (row.cancel_reason ?? 'cancelled') : undefined };
}

export function jobLost(id: string): ChainkeepError {
  return new ChainkeepError(
    'JOB_LOST',
    `job ${id} is not this process's any more: nothing was heard of it for too long, and another one settled it`,
    {
      advice: `the process was stopped or cut off from the database; see how the job ended with: chainkeep jobs show ${id}`,
      context: { job_id: id },
      retryable: true,
    },
  );
}

export interface JobFilter {
  readonly statuses?: readonly JobStatus[];
  readonly parentJobId?: string;
  /** Only jobs older than this one. */
  readonly before?: Pick<TrackedJob, 'id' | 'created_at'>;
  readonly limit?: number;
}

/** The newest first. */
export function listTrackedJobs(catalog: Catalog, filter: JobFilter): Promise<readonly TrackedJob[]> {
  const { statuses, parentJobId, before, limit } = filter;
  const at = before === undefined ? null : instant.encode(before.created_at, 'created_at', catalog.dialect);
  const condition = where([
    statuses === undefined ? undefined : sql`status in ${list(statuses)}`,
    parentJobId === undefined ? undefined : sql`parent_job_id = ${parentJobId}`,
    before === undefined ? undefined : sql`(created_at < ${at} or (created_at = ${at} and id < ${before.id}))`,
  ]);
  return select(
    catalog,
    JOB_TRACKING,
    sql`${condition} order by created_at desc, id desc ${limit === undefined ? literal('') : sql`limit ${limit}`}`,
  );
}

/** A job that has not ended, and when it was last heard of. */
export interface UnendedJob extends TrackedJob {
  readonly heard_at: string;
}

export function listUnendedJobs(catalog: Catalog): Promise<readonly UnendedJob[]> {
  return unendedJobs(catalog, sql`j.status in ('pending', 'running') order by j.created_at desc, j.id desc`);
}

function unendedJobs(catalog: Catalog, condition: Sql): Promise<readonly UnendedJob[]> {
  return query(
    catalog,
    { ...JOB_TRACKING.columns, heard_at: instant },
    sql`select ${columnList(JOB_TRACKING, 'j.')}, coalesce(h.beat_at, j.updated_at) as heard_at
      from job_tracking j left join job_heartbeats h on h.job_id = j.id where ${condition}`,
  );
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

/**
 * Makes `to` the owner of a job that has not ended, belongs to `from` and has not been heard of since. False when it ended, when it was heard of,
 * or when somebody else was faster.
 */
export function claimTrackedJob(catalog: Catalog, job: UnendedJob, from: Owner, to: Owner): Promise<boolean> {
  return catalog.transaction(async (unit) => {
    if (!isOwn(await holdJob(unit, job.id), from)) return false;
    const [now] = await unendedJobs(unit, sql`j.id = ${job.id}`);
    if (now?.heard_at !== job.heard_at) return false;
    await update(unit, JOB_TRACKING, { owner: to }, sql`id = ${job.id}`);
    await beginHeartbeat(unit, job.id);
    return true;
  });
}

/** Gives a claimed job back to its dead owner, silent since it was, for the next start to try. */
export async function returnTrackedJob(catalog: Catalog, job: UnendedJob, self: Owner, owner: Owner): Promise<void> {
  await changeOwnJob(catalog, job.id, self, async (unit) => {
    await update(unit, JOB_TRACKING, { owner }, sql`id = ${job.id}`);
    await update(unit, JOB_HEARTBEATS, { beat_at: job.heard_at }, sql`job_id = ${job.id}`);
  });
}

/** A job that waits in a queue and belongs to nobody. False when somebody runs it by now. */
export async function cancelPendingJob(catalog: Catalog, id: string): Promise<boolean> {
  const now = isoTime(catalog.clock.now());
  const end = { status: 'cancelled', canceled_at: now, completed_at: now, error_message: 'cancelled before it began' } as const;
  return (await update(catalog, JOB_TRACKING, end, sql`id = ${id} and status = 'pending' and owner is null`)) === 1;
}

/** Inside of a transaction that holds the job. */
export async function endTrackedJob(unit: Catalog, id: string, end: Partial<TrackedJob>): Promise<void> {
  await update(unit, JOB_TRACKING, end, sql`id = ${id}`);
  await endHeartbeat(unit, id);
}

function ownerText(owner: Owner): SqlValue {
  return ownerColumn.encode(owner, 'owner', 'sqlite'); // the same text on both
}
