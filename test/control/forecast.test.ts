// Growth and the day on which a repository is full: known where the samples show it, and not said where they do not.

import { describe, expect, it } from 'vitest';
import { forecast, type MeasuredUse } from '../../src/control/forecast.ts';

const DAY = 86_400_000;
const START = Date.parse('2026-11-01T00:00:00Z');
const GIB = 2 ** 30;

/** One sample every `every` days; `used` in GiB by the day. */
function samples(days: number, used: (day: number) => number, every = 1): readonly MeasuredUse[] {
  return Array.from({ length: Math.floor(days / every) + 1 }, (_, index) => ({
    at: START + index * every * DAY,
    usedBytes: Math.round(used(index * every) * GIB),
  }));
}

/** From -1 to 1, the same each time. */
function noise(seed: number): number {
  return (Math.imul(seed + 1, 2_654_435_761) >>> 0) / 2 ** 31 - 1;
}

describe('the forecast', () => {
  it('of steady growth is exact', () => {
    const { growthPerDay, daysUntilFull } = forecast(
      samples(30, (day) => 100 + 2 * day),
      50 * GIB,
    );
    expect(growthPerDay).toBe(2 * GIB);
    expect(daysUntilFull).toBe(25);
  });

  it('of one that stands still is no growth, and never full', () => {
    expect(
      forecast(
        samples(30, () => 100),
        50 * GIB,
      ),
    ).toEqual({ growthPerDay: 0, daysUntilFull: null });
  });

  it('of one that shrinks is negative, and never full', () => {
    expect(
      forecast(
        samples(30, (day) => 100 - day),
        50 * GIB,
      ),
    ).toEqual({ growthPerDay: -GIB, daysUntilFull: null });
  });

  it('goes through noise: nights that add and days on which something is deleted', () => {
    const { growthPerDay, daysUntilFull } = forecast(
      samples(60, (day) => 100 + day + 5 * noise(day), 0.25),
      60 * GIB,
    );
    expect(Math.abs((growthPerDay ?? 0) / GIB - 1)).toBeLessThan(0.1);
    expect(Math.abs((daysUntilFull ?? 0) - 60)).toBeLessThan(6);
  });

  it('of noise alone names no day', () => {
    for (const shift of [0, 100, 200, 300]) {
      const { daysUntilFull } = forecast(
        samples(10, (day) => 100 + 20 * noise(day + shift)),
        50 * GIB,
      );
      if (daysUntilFull !== null) expect(daysUntilFull).toBeGreaterThan(20);
    }
    const sawtooth = forecast(
      samples(12, (day) => 100 + (day % 2) * 10),
      50 * GIB,
    );
    expect(sawtooth.daysUntilFull).toBeNull();
  });

  it('is unknown with too few samples, or within a day', () => {
    const unknown = { growthPerDay: null, daysUntilFull: null };
    expect(forecast([], GIB)).toEqual(unknown);
    expect(
      forecast(
        samples(2, (day) => day),
        GIB,
      ),
    ).toEqual(unknown);
    expect(
      forecast(
        samples(0.9, (day) => day, 0.01),
        GIB,
      ),
    ).toEqual(unknown);
    const atOnce = Array.from({ length: 10 }, () => ({ at: START, usedBytes: 1 }));
    expect(forecast(atOnce, GIB)).toEqual(unknown);
    expect(
      forecast(
        samples(3, (day) => day),
        GIB,
      ).growthPerDay,
    ).toBe(GIB);
  });

  it('a dense night does not outvote a month', () => {
    const month = samples(30, (day) => 100 + day);
    const night = Array.from({ length: 1000 }, (_, index) => ({ at: START + 30 * DAY + index * 1000, usedBytes: 130 * GIB }));
    const { growthPerDay } = forecast([...month, ...night], 50 * GIB);
    expect(Math.abs((growthPerDay ?? 0) / GIB - 1)).toBeLessThan(0.05);
  });

  it('of a store without an end is growth alone', () => {
    const growing = samples(30, (day) => 100 + day);
    expect(forecast(growing, undefined)).toEqual({ growthPerDay: GIB, daysUntilFull: null });
  });

  it('what is full already is full today, and what lies decades away is not named', () => {
    const growing = samples(30, (day) => 100 + day);
    expect(forecast(growing, 0).daysUntilFull).toBe(0);
    expect(forecast(growing, 20_000 * GIB).daysUntilFull).toBeNull();
  });
});
