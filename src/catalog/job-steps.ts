// The table of the steps of jobs, in the order in which they began.
// It must not decide what a step is.

import type { Catalog } from './catalog.ts';
import { instant, integer, json, longText, nullable, oneOf, text } from './column.ts';
import { sql } from './sql.ts';
import { defineTable, insert, select, type TableRow, update } from './table.ts';

export const JOB_STEPS = defineTable('job_steps', {
  id: text(64),
  job_id: text(64),
  seq: integer,
  name: text(191),
  status: oneOf(['running', 'completed', 'failed', 'skipped']),
  started_at: instant,
  completed_at: nullable(instant),
  error_message: nullable(longText),
  metadata: nullable(json),
});

export type JobStep = TableRow<typeof JOB_STEPS>;

export type NewJobStep = Pick<JobStep, 'id' | 'job_id' | 'seq' | 'name' | 'started_at'> & Partial<JobStep>;
export type JobStepEnd = Pick<JobStep, 'status' | 'completed_at'> & Partial<Pick<JobStep, 'error_message' | 'metadata'>>;

/** `seq` is unique per job. */
export function insertJobStep(catalog: Catalog, step: NewJobStep): Promise<void> {
  return insert(catalog, JOB_STEPS, step);
}

export async function endJobStep(catalog: Catalog, id: string, end: JobStepEnd): Promise<void> {
  await update(catalog, JOB_STEPS, end, sql`id = ${id}`);
}

/** Those of a job that are still running, when the job has ended without them. */
export async function endRunningSteps(catalog: Catalog, jobId: string, end: JobStepEnd): Promise<void> {
  await update(catalog, JOB_STEPS, end, sql`job_id = ${jobId} and status = 'running'`);
}

export function listJobSteps(catalog: Catalog, jobId: string): Promise<readonly JobStep[]> {
  return select(catalog, JOB_STEPS, sql`where job_id = ${jobId} order by seq`);
}
