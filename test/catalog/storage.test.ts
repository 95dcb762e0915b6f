// Samples of how full a repository was, thinned as they grow old; and reservations, of which the later sees the earlier.

import { describe, expect, it } from 'vitest';
import { addReservation, listReservations, removeReservationsOfJob, renewReservation } from '../../src/catalog/space-reservations.ts';
import { listSamples, recordSample, samplesToRemove } from '../../src/catalog/storage-samples.ts';
import { currentOwner } from '../../src/control/owner.ts';
import { isoTime } from '../../src/plumbing/clock.ts';
import { addRepository, openScratch, setClock } from './scratch-catalog.ts';

const MINUTE = 60_000;
const DAY = 86_400_000;
const sample = (used: number, repository_id = 'repo-1') => ({
  repository_id,
  total_bytes: 1000,
  used_bytes: used,
  available_bytes: 1000 - used,
});

describe('storage samples', () => {
  it('are entered at most every ten minutes for each repository', async () => {
    const clock = setClock();
    const { catalog } = await openScratch(clock);
    await addRepository(catalog);
    await addRepository(catalog, 'repo-2');
    const entered: boolean[] = [];
    for (const [minutes, id] of [
      [0, 'repo-1'],
      [9, 'repo-1'],
      [0, 'repo-2'],
      [1, 'repo-1'],
    ] as const) {
      clock.advance(minutes * MINUTE);
      entered.push(await recordSample(catalog, sample(minutes, id)));
    }
    expect(entered).toEqual([true, false, true, true]);
    const found = await listSamples(catalog, 'repo-1', clock.now() - DAY);
    expect(found.map(({ used_bytes, sampled_at }) => [used_bytes, sampled_at])).toEqual([
      [0, isoTime(clock.now() - 10 * MINUTE)],
      [1, isoTime(clock.now())],
    ]);
    expect((await listSamples(catalog, 'repo-1', clock.now() - 5 * MINUTE)).length).toBe(1);
  });

  it('a clock that is set back does not keep them out', async () => {
    const clock = setClock();
    const { catalog } = await openScratch(clock);
    await addRepository(catalog);
    await recordSample(catalog, sample(1));
    clock.advance(-DAY);
    expect(await recordSample(catalog, sample(2))).toBe(true);
  });

  it('are all kept for a week, then one a day, then for four hundred days', async () => {
    const clock = setClock();
    const { catalog } = await openScratch(clock);
    await addRepository(catalog);
    for (let hour = 0; hour < 20 * 24; hour += 6) {
      await recordSample(catalog, sample(hour));
      clock.advance(6 * 60 * MINUTE);
    }
    const kept = await listSamples(catalog, 'repo-1', 0);
    const young = kept.filter(({ sampled_at }) => Date.parse(sampled_at) >= clock.now() - 7 * DAY);
    const old = kept.filter((one) => !young.includes(one));
    expect(young.length).toBe(28);
    const days = old.map(({ sampled_at }) => sampled_at.slice(0, 10));
    // The day on which the week begins may have several still.
    expect(days.length - new Set(days).size).toBeLessThanOrEqual(3);
    expect(new Set(days).size).toBeGreaterThanOrEqual(13);
  });

  it('the last of each day stays', () => {
    const at = (id: number, sampled_at: string) => ({ id, sampled_at });
    const now = Date.parse('2026-11-22T00:00:00Z');
    const old = [
      at(1, '2025-01-01T10:00:00.000Z'),
      at(2, '2026-10-01T10:00:00.000Z'),
      at(3, '2026-10-01T23:00:00.000Z'),
      at(4, '2026-10-02T00:00:00.000Z'),
    ];
    expect(samplesToRemove(old, now)).toEqual([1, 2]);
    expect(samplesToRemove([], now)).toEqual([]);
  });
});

describe('space reservations', () => {
  it('of two that come at once the later sees the earlier, and not the other way round', async () => {
    const { catalog } = await openScratch();
    await addRepository(catalog);
    const owner = await currentOwner(catalog);
    const reserve = (job: string, bytes: number) =>
      addReservation(catalog, { repositoryId: 'repo-1', jobId: job, owner, bytes, expiry: MINUTE });
    const all = await Promise.all([1, 2, 3, 4].map((number) => reserve(`job-${number}`, number * 2 ** 40)));
    expect(all.map(({ others }) => others.length).toSorted()).toEqual([0, 1, 2, 3]);
    expect(new Set(all.map(({ id }) => id)).size).toBe(4);
    const [first] = await listReservations(catalog, 'repo-1');
    if (!first) throw new Error('there is none');
    await renewReservation(catalog, first.id, 7, 2 * MINUTE);
    await removeReservationsOfJob(catalog, 'job-4');
    const left = await listReservations(catalog, 'repo-1');
    expect(left.find(({ id }) => id === first.id)?.bytes ?? 7).toBe(7);
    expect(left.map(({ job_id }) => job_id).toSorted()).toEqual(['job-1', 'job-2', 'job-3']);
  });
});
