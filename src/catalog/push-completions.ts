// The table of wishes that a pushed disk is taken as complete: whoever pushed it says so, in another process than the one that receives it.
// The row goes with its job.

import { isoTime } from '../plumbing/clock.ts';
import type { Catalog } from './catalog.ts';
import { instant, nullable, text } from './column.ts';
import { sql } from './sql.ts';
import { defineTable, insert, selectOne, type TableRow } from './table.ts';

export const PUSH_COMPLETIONS = defineTable('push_completions', {
  job_id: text(64),
  /** The source's own mark of the state that was pushed. */
  change_id: nullable(text(191)),
  requested_at: instant,
});

export type PushCompletion = TableRow<typeof PUSH_COMPLETIONS>;

/** The process that receives sees it within a second. The first wish counts: answers it, whether it was this one or an earlier one. */
export function requestCompletion(catalog: Catalog, jobId: string, changeId: string | null): Promise<PushCompletion> {
  return catalog.transaction(async (unit) => {
    const known = await findCompletion(unit, jobId);
    if (known) return known;
    const wish = { job_id: jobId, change_id: changeId, requested_at: isoTime(unit.clock.now()) };
    await insert(unit, PUSH_COMPLETIONS, wish);
    return wish;
  });
}

export function findCompletion(catalog: Catalog, jobId: string): Promise<PushCompletion | undefined> {
  return selectOne(catalog, PUSH_COMPLETIONS, sql`where job_id = ${jobId}`);
}
