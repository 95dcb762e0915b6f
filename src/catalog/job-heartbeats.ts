// The table of heartbeats: when a running job was last heard of, and whether somebody wants it to stop. The row goes when the job ends.
// It must not judge whether a job is dead: jobs/settle.ts does.

import { isoTime } from '../plumbing/clock.ts';
import type { Catalog } from './catalog.ts';
import { instant, longText, nullable, text } from './column.ts';
import { list, literal, sql } from './sql.ts';
import { defineTable, insert, query, remove, selectOne, type TableRow, update } from './table.ts';

export const JOB_HEARTBEATS = defineTable('job_heartbeats', {
  job_id: text(64),
  beat_at: instant,
  cancel_requested_at: nullable(instant),
  cancel_reason: nullable(longText),
});

export type JobHeartbeat = TableRow<typeof JOB_HEARTBEATS>;

/**
 * The time that heartbeats are written and judged by, milliseconds since 1970: that of the database server, because the clocks of two machines
 * differ. An embedded database is used by the processes of one machine.
 */
export async function heartbeatTime(catalog: Catalog): Promise<number> {
  if (catalog.dialect === 'sqlite') return catalog.clock.now();
  const [row] = await query(catalog, { now: instant }, literal('select utc_timestamp(6) as now'));
  return row === undefined ? catalog.clock.now() : Date.parse(row.now);
}

/** The first one of a job, or of the process that took it over; in the transaction in which the job got its owner. */
export async function beginHeartbeat(unit: Catalog, jobId: string): Promise<void> {
  const beat = { beat_at: isoTime(await heartbeatTime(unit)) };
  if (await findHeartbeat(unit, jobId)) await update(unit, JOB_HEARTBEATS, beat, sql`job_id = ${jobId}`);
  else await insert(unit, JOB_HEARTBEATS, { job_id: jobId, ...beat });
}

export async function renewHeartbeat(catalog: Catalog, jobId: string): Promise<void> {
  const beat = { beat_at: isoTime(await heartbeatTime(catalog)) };
  await update(catalog, JOB_HEARTBEATS, beat, sql`job_id = ${jobId}`, { durable: false });
}

export function findHeartbeat(catalog: Catalog, jobId: string): Promise<JobHeartbeat | undefined> {
  return selectOne(catalog, JOB_HEARTBEATS, sql`where job_id = ${jobId}`);
}

/** Whoever runs the jobs sees it at the next look, a second later at most. */
export async function requestCancel(catalog: Catalog, jobIds: readonly string[], reason: string): Promise<void> {
  const wish = { cancel_requested_at: isoTime(catalog.clock.now()), cancel_reason: reason };
  await update(catalog, JOB_HEARTBEATS, wish, sql`job_id in ${list(jobIds)} and cancel_requested_at is null`);
}

export async function endHeartbeat(unit: Catalog, jobId: string): Promise<void> {
  await remove(unit, JOB_HEARTBEATS, sql`job_id = ${jobId}`);
}
