// The values of columns: how each kind is checked on its way into the database and out of it, on both databases.
// It must not know tables. The lengths and enums here are repeated as rules of the database by the migrations.

import { ChainkeepError } from '../plumbing/errors.ts';
import type { Dialect, SqlValue } from './catalog.ts';

/** `name` is the column's, for the message of an error. */
export interface Column<T> {
  /** Throws CATALOG_FAILED when the database holds something that cannot be there. */
  decode(raw: unknown, name: string): T;
  /** Throws CONFIG_INVALID when the value does not fit. */
  encode(value: T, name: string, dialect: Dialect): SqlValue;
}

export type JsonObject = Readonly<Record<string, unknown>>;

/** At most `maxLength` characters (code points, as both databases count them). */
export function text(maxLength: number): Column<string> {
  return {
    decode: (raw, name) => (typeof raw === 'string' ? raw : unexpected(raw, name)),
    encode: (value, name) => checkedText(value, name, maxLength),
  };
}

/** Text of any length: messages, not names. */
export const longText: Column<string> = {
  decode: (raw, name) => (typeof raw === 'string' ? raw : unexpected(raw, name)),
  encode: (value) => value,
};

/** Whole numbers; beyond 2^53 reading throws instead of rounding (the driver's rounded value is no safe integer either). */
export const integer: Column<number> = {
  decode: (raw, name) => (typeof raw === 'number' && Number.isSafeInteger(raw) ? raw : unexpected(raw, name)),
  encode: (value, name) => (Number.isSafeInteger(value) ? value : refused(name, `${value} is not a whole number below 2^53`)),
};

export const boolean: Column<boolean> = {
  decode: (raw, name) => (raw === 0 || raw === 1 ? raw === 1 : unexpected(raw, name)),
  encode: (value) => (value ? 1 : 0),
};

/** ISO 8601 in UTC in the program and on SQLite, DATETIME(6) on MariaDB; three digits of the second, or six where there are microseconds. */
export const instant: Column<string> = {
  decode: (raw, name) => {
    if (typeof raw !== 'string') return unexpected(raw, name);
    return raw.endsWith('Z') ? raw : `${raw.replace(' ', 'T').replace(/(\.\d{3})000$/, '$1')}Z`;
  },
  encode: (value, name, dialect) => {
    if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,6}Z$/.test(value)) return refused(name, `${value} is not a time in UTC`);
    return dialect === 'sqlite' ? value : value.replace('T', ' ').replace('Z', '');
  },
};

/** The same with six digits of the second always, for what is many in a millisecond. */
export const preciseInstant: Column<string> = {
  decode: (raw, name) => instant.decode(raw, name).replace(/(\.\d{3})Z$/, '$1000Z'),
  encode: instant.encode,
};

export const json: Column<JsonObject> = {
  decode: (raw, name) => {
    const value: unknown = typeof raw === 'string' ? JSON.parse(raw) : raw;
    return isJsonObject(value) ? value : unexpected(raw, name);
  },
  encode: (value) => JSON.stringify(value),
};

export function oneOf<const T extends string>(values: readonly T[]): Column<T> {
  const known: ReadonlySet<unknown> = new Set(values);
  const isOne = (raw: unknown): raw is T => known.has(raw);
  return {
    decode: (raw, name) => (isOne(raw) ? raw : unexpected(raw, name)),
    encode: (value, name) => (isOne(value) ? value : refused(name, `"${value}" is not one of ${values.join(', ')}`)),
  };
}

export function nullable<T>(column: Column<T>): Column<T | null> {
  return {
    decode: (raw, name) => (raw === null ? null : column.decode(raw, name)),
    encode: (value, name, dialect) => (value === null ? null : column.encode(value, name, dialect)),
  };
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function checkedText(value: string, name: string, maxLength: number): string {
  // Both would be stored as something else: NUL ends a text for SQLite's functions, half a surrogate pair becomes U+FFFD.
  if (value.includes('\0') || !value.isWellFormed()) return refused(name, 'the text is not valid Unicode, or contains a NUL character');
  if (value.length > maxLength && [...value].length > maxLength) {
    return refused(name, `the text has ${[...value].length} characters, at most ${maxLength} are possible`, 'choose a shorter one');
  }
  return value;
}

function unexpected(raw: unknown, name: string): never {
  const shown = typeof raw === 'string' ? `"${raw.slice(0, 80)}"` : String(raw);
  throw new ChainkeepError('CATALOG_FAILED', `the database holds an impossible value for ${name}: ${shown}`, {
    advice: 'another program may have written to this database; restore it from a copy, or rebuild it from the repositories',
    context: { column: name },
  });
}

function refused(name: string, why: string, advice = 'give another value'): never {
  throw new ChainkeepError('CONFIG_INVALID', `${name.replaceAll('_', ' ')}: ${why}`, { advice, context: { column: name } });
}
