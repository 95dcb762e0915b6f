// Times for people: local time and durations. JSON answers keep the UTC text they come with, and options take it.

import { ChainkeepError } from '../plumbing/errors.ts';

/**
 * An instant of `2026-11-22T14:05:09Z`; also with a blank for the T, without seconds, or with an offset from UTC (`+01:00`). Without Z and offset it is
 * UTC, too. Throws USAGE.
 */
export function parseTime(text: string): string {
  const match = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d(?:\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?$/i.exec(text);
  const [, day = '', minute = '', seconds = ':00', zone = 'Z'] = match ?? [];
  const time = new Date(`${day}T${minute}${seconds}${zone.toUpperCase()}`);
  const midnight = new Date(`${day}T00:00:00Z`);
  const exist = !Number.isNaN(time.getTime()) && !Number.isNaN(midnight.getTime());
  // A day that its month does not have would become one of the next.
  if (match && exist && midnight.toISOString().startsWith(day)) return time.toISOString();
  throw new ChainkeepError('USAGE', `"${text}" is no time`, { advice: 'give it in UTC, as 2026-11-22T14:05:09Z' });
}

/** The minute that was shown last: rows of a listing follow each other in time, and reading the time zone is slow. */
let shown = { minute: '', local: '' };

/** `2026-11-22 14:05:09` in local time from an ISO text in UTC; `-` for none. */
export function formatTime(iso: string | null): string {
  if (iso === null) return '-';
  const minute = iso.slice(0, 16);
  if (shown.minute !== minute) {
    const local = localMinute(iso);
    if (local === undefined) return iso;
    shown = { minute, local };
  }
  return `${shown.local}:${iso.slice(17, 19)}`; // no time zone of today has seconds of its own
}

function localMinute(iso: string): string | undefined {
  const time = new Date(iso);
  if (Number.isNaN(time.getTime()) || !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/.test(iso)) return undefined;
  const two = (value: number) => String(value).padStart(2, '0');
  const date = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  return `${date} ${two(time.getHours())}:${two(time.getMinutes())}`;
}

/** `850 ms`, `12.3 s`, `4 min 05 s`, `2 h 10 min`. */
export function formatDuration(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 59_950) return `${(milliseconds / 1000).toFixed(1)} s`;
  const seconds = Math.round(milliseconds / 1000);
  const two = (value: number) => String(value).padStart(2, '0');
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${two(Math.floor((seconds % 3600) / 60))} min`;
}
