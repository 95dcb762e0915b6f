// The one place that asks for the time and for randomness, so that tests can put others in its stead.

import { randomBytes } from 'node:crypto';

export interface Clock {
  /** Wall clock, milliseconds since 1970 in UTC. */
  now(): number;
  /** A clock that never jumps, milliseconds from an arbitrary start. */
  monotonic(): number;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
};

/** ISO 8601 in UTC with milliseconds, as it stands in sidecars, the catalog and JSON answers. */
export function isoTime(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';

/** `length` characters of Crockford's base 32, lower case: 5 bits of randomness each. */
export function randomToken(length: number): string {
  let token = '';
  for (const byte of randomBytes(length)) token += ALPHABET[byte & 31];
  return token;
}

/** A number from 0 up to 1, for the jitter of repetitions. */
export function randomFraction(): number {
  return randomBytes(4).readUInt32BE() / 2 ** 32;
}

let newest = 0;

/**
 * A new id: the UTC time to the millisecond, then 40 random bits: `20261122t133012345-4f7k2c9q`.
 * Sortable by time as text, safe in paths, also ascending within one millisecond of one process.
 * `after`: an id that the new one must follow, also when the clock was set back since.
 */
export function newId(clock: Clock, after?: string): string {
  newest = Math.max(clock.now(), newest + 1, after === undefined ? 0 : timeOfId(after) + 1);
  const time = isoTime(newest)
    .replace(/[-:.Z]/g, '')
    .toLowerCase();
  return `${time}-${randomToken(8)}`;
}

/** Milliseconds since 1970 that an id of ours begins with; 0 for one of another form. */
export function timeOfId(id: string): number {
  const match = /^(\d{4})(\d\d)(\d\d)t(\d\d)(\d\d)(\d\d)(\d{3})-/.exec(id);
  if (!match) return 0;
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, millisecond = 0] = match.slice(1).map(Number);
  return Date.UTC(year, month - 1, day, hour, minute, second, millisecond);
}

/** Ids are made by us; whatever else is read from outside as an id is refused before it is part of a path. */
export function isId(text: string): boolean {
  return /^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$/.test(text);
}
