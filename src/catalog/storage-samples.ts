// The table of storage samples: how full a repository was, now and then, for its growth and for when it will be full.
// It must not measure: whoever has measured enters it here.

import { isoTime } from '../plumbing/clock.ts';
import type { Catalog } from './catalog.ts';
import { instant, integer, text } from './column.ts';
import { list, sql } from './sql.ts';
import { defineTable, insert, remove, select, selectOne, type TableRow } from './table.ts';

export const STORAGE_SAMPLES = defineTable('storage_samples', {
  id: integer,
  repository_id: text(64),
  sampled_at: instant,
  total_bytes: integer,
  used_bytes: integer,
  available_bytes: integer,
});

export type StorageSample = TableRow<typeof STORAGE_SAMPLES>;
export type NewStorageSample = Omit<StorageSample, 'id' | 'sampled_at'>;

const DAY_MS = 86_400_000;
/** Milliseconds between two samples of a repository; what is measured sooner is not entered. */
const SAMPLE_EVERY = 10 * 60_000;
/** Days for which all are kept; of older days only the last one. */
const ALL_FOR_DAYS = 7;
const KEPT_FOR_DAYS = 400;

/** False when there is a young one already. */
export function recordSample(catalog: Catalog, sample: NewStorageSample): Promise<boolean> {
  return catalog.transaction(async (unit) => {
    const now = unit.clock.now();
    const last = await selectOne(
      unit,
      STORAGE_SAMPLES,
      sql`where repository_id = ${sample.repository_id} order by sampled_at desc, id desc`,
    );
    const age = last === undefined ? Number.POSITIVE_INFINITY : now - Date.parse(last.sampled_at);
    // A clock that was set back must not keep samples out for as long as it was ahead.
    if (age >= 0 && age < SAMPLE_EVERY) return false;
    await insert(unit, STORAGE_SAMPLES, { ...sample, sampled_at: isoTime(now) });
    await thin(unit, sample.repository_id, now);
    return true;
  });
}

/** The oldest first. */
export function listSamples(catalog: Catalog, repositoryId: string, since: number): Promise<readonly StorageSample[]> {
  const from = instant.encode(isoTime(since), 'sampled_at', catalog.dialect);
  return select(catalog, STORAGE_SAMPLES, sql`where repository_id = ${repositoryId} and sampled_at >= ${from} order by sampled_at, id`);
}

async function thin(unit: Catalog, repositoryId: string, now: number): Promise<void> {
  const before = instant.encode(isoTime(now - ALL_FOR_DAYS * DAY_MS), 'sampled_at', unit.dialect);
  const old = await select(
    unit,
    STORAGE_SAMPLES,
    sql`where repository_id = ${repositoryId} and sampled_at < ${before} order by sampled_at, id`,
  );
  const ids = samplesToRemove(old, now);
  if (ids.length > 0) await remove(unit, STORAGE_SAMPLES, sql`id in ${list(ids)}`);
}

/** Of each day all but the last, and all that are too old. `samples`: the oldest first, none of the days that are kept whole. */
export function samplesToRemove(samples: readonly Pick<StorageSample, 'id' | 'sampled_at'>[], now: number): readonly number[] {
  const dayOf = (sample: Pick<StorageSample, 'sampled_at'> | undefined): string | undefined => sample?.sampled_at.slice(0, 10);
  return samples
    .filter((sample, index) => {
      const isLast = dayOf(samples[index + 1]) !== dayOf(sample);
      return !isLast || Date.parse(sample.sampled_at) < now - KEPT_FOR_DAYS * DAY_MS;
    })
    .map(({ id }) => id);
}
