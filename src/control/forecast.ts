// How fast a repository grows and when it will be full, from what was measured: a straight line through the samples. Pure functions.
// It must not promise what the samples do not show: with too few of them, or too much noise, it is not known.

export interface MeasuredUse {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly usedBytes: number;
}

export interface Forecast {
  /** Bytes a day; negative where it shrinks, null where nothing can be said. */
  readonly growthPerDay: number | null;
  /** Until nothing is free; null where it does not grow, or nothing can be said. */
  readonly daysUntilFull: number | null;
}

const DAY_MS = 86_400_000;
const UNKNOWN: Forecast = { growthPerDay: null, daysUntilFull: null };
/** Two points are always on a line; nothing is known before there are four, over a day at least. */
const FEWEST_POINTS = 4;
const SHORTEST_SPAN_MS = DAY_MS;
/** Samples are dense of late and sparse of old: all of a part of the time count as one, so that a busy night does not outvote a month. */
const MOST_POINTS = 60;
/** What is further away is not worth a number. */
const MOST_DAYS = 10_000;
/** A slope that is not twice its own error is noise. */
const SURE = 2;

/** `samples` in the order of time; `availableBytes` as measured last, undefined where the store has no end that is known. */
export function forecast(samples: readonly MeasuredUse[], availableBytes: number | undefined): Forecast {
  const points = merge(samples);
  const [first] = points;
  const last = points.at(-1);
  if (!first || !last || points.length < FEWEST_POINTS || last.at - first.at < SHORTEST_SPAN_MS) return UNKNOWN;
  const { slope, error } = fitLine(points);
  const growthPerDay = Math.round(slope * DAY_MS);
  if (availableBytes === undefined || slope <= 0 || slope < SURE * error) return { growthPerDay, daysUntilFull: null };
  const days = availableBytes / (slope * DAY_MS);
  return { growthPerDay, daysUntilFull: days > MOST_DAYS ? null : Math.round(days * 10) / 10 };
}

/** At most MOST_POINTS, each the middle of the samples of its part of the time. */
function merge(samples: readonly MeasuredUse[]): readonly MeasuredUse[] {
  const first = samples[0]?.at ?? 0;
  const part = ((samples.at(-1)?.at ?? 0) - first) / MOST_POINTS;
  if (samples.length <= MOST_POINTS || part <= 0) return samples;
  const parts = Map.groupBy(samples, ({ at }) => Math.min(MOST_POINTS - 1, Math.floor((at - first) / part)));
  return [...parts.values()].map((some) => ({
    at: mean(some.map(({ at }) => at)),
    usedBytes: mean(some.map(({ usedBytes }) => usedBytes)),
  }));
}

/** Least squares: the slope in bytes a millisecond, and its standard error. */
function fitLine(points: readonly MeasuredUse[]): { readonly slope: number; readonly error: number } {
  const middle = { at: mean(points.map(({ at }) => at)), used: mean(points.map(({ usedBytes }) => usedBytes)) };
  let across = 0;
  let together = 0;
  for (const { at, usedBytes } of points) {
    across += (at - middle.at) ** 2;
    together += (at - middle.at) * (usedBytes - middle.used);
  }
  const slope = together / across;
  const off = points.reduce((sum, { at, usedBytes }) => sum + (usedBytes - middle.used - slope * (at - middle.at)) ** 2, 0);
  return { slope, error: Math.sqrt(off / (points.length - 2) / across) };
}

function mean(numbers: readonly number[]): number {
  return numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
}
