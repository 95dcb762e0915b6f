// The table of log lines: what they hold, and the plain statements on them.
// It must not decide when a line is written: event-log.ts does.

import { isoTime } from '../plumbing/clock.ts';
import type { LogLevel } from '../plumbing/logger.ts';
import type { Catalog } from './catalog.ts';
import { integer, type JsonObject, json, longText, nullable, oneOf, preciseInstant, text } from './column.ts';
import type { WaitingEvent } from './event-buffer.ts';
import { join, literal, sql } from './sql.ts';
import { defineTable, insert, select, type TableRow } from './table.ts';

export const LOG_EVENTS = defineTable('log_events', {
  id: integer,
  job_id: text(64),
  step_id: nullable(text(64)),
  level: oneOf(['debug', 'info', 'warn', 'error']),
  message: longText,
  attrs: nullable(json),
  ts: preciseInstant,
});

export type LogEvent = TableRow<typeof LOG_EVENTS>;

export interface NewLogEvent {
  readonly level: LogLevel;
  readonly message: string;
  readonly attrs?: Readonly<Record<string, unknown>> | undefined;
  readonly stepId: string | null;
}

/** One line outside of a running job. */
export function insertLogEvent(catalog: Catalog, jobId: string, event: NewLogEvent): Promise<void> {
  const attrs = plainAttrs(event.attrs);
  const row = {
    job_id: jobId,
    step_id: event.stepId,
    level: event.level,
    message: clipText(event.message),
    ts: isoTime(catalog.clock.now()),
  };
  return insert(catalog, LOG_EVENTS, { ...row, attrs }, { durable: false });
}

/** Many lines in one statement, in their order. They are durable with the next change of state, and survive the death of the process at once. */
export async function insertLogEvents(catalog: Catalog, jobId: string, events: readonly WaitingEvent[]): Promise<void> {
  const rows = events.map(({ level, message, attrs, stepId, ts }) => {
    const at = preciseInstant.encode(ts, 'ts', catalog.dialect);
    return sql`(${jobId}, ${stepId}, ${level}, ${message}, ${attrs}, ${at})`;
  });
  const statement = sql`insert into log_events (job_id, step_id, level, message, attrs, ts) values ${join(rows, ', ')}`;
  await catalog.run(statement, { durable: false });
}

export interface EventPage {
  /** Only those behind this one. */
  readonly after?: Pick<LogEvent, 'ts' | 'id'>;
  readonly limit: number;
}

/** In the order in which they were logged. */
export function listLogEvents(catalog: Catalog, jobId: string, page?: EventPage): Promise<readonly LogEvent[]> {
  const { ts, id } = page?.after ?? { ts: '', id: 0 };
  const at = page?.after === undefined ? ts : preciseInstant.encode(ts, 'ts', catalog.dialect);
  const behind = page?.after === undefined ? literal('') : sql`and (ts > ${at} or (ts = ${at} and id > ${id}))`;
  const limit = page === undefined ? literal('') : sql`limit ${page.limit}`;
  return select(catalog, LOG_EVENTS, sql`where job_id = ${jobId} ${behind} order by ts, id ${limit}`);
}

// MariaDB's TEXT holds 64 KiB, and a character may take four bytes of it.
const LONGEST_MESSAGE = 16_000;
const LONGEST_ATTRS = 64 * 1024;

/** A message that both databases hold; one that is cut ends with an ellipsis. */
export function clipText(message: string): string {
  const text = message.length <= LONGEST_MESSAGE ? message : `${message.slice(0, LONGEST_MESSAGE)}…`;
  return text.isWellFormed() ? text : text.toWellFormed();
}

/** Attributes as they are stored; such that would fill the database are cut, and say so. */
export function encodeAttrs(attrs: Readonly<Record<string, unknown>> | undefined): string | null {
  const plain = plainAttrs(attrs);
  if (plain === null) return null;
  const text = JSON.stringify(plain);
  if (text.length <= LONGEST_ATTRS) return text;
  return JSON.stringify({ cut: text.slice(0, 1000).toWellFormed(), characters: text.length });
}

/** What JSON cannot say is said as text. */
function plainAttrs(attrs: Readonly<Record<string, unknown>> | undefined): JsonObject | null {
  if (attrs === undefined) return null;
  const seen = new Set<unknown>();
  const plain = (value: unknown): unknown => {
    if (typeof value === 'bigint') return String(value);
    if (value instanceof Error) return value.message;
    if (typeof value !== 'object' || value === null || value instanceof Date) return value;
    if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
    if (seen.has(value)) return '[again]';
    seen.add(value);
    if (Array.isArray(value)) return value.map(plain);
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
  };
  return Object.fromEntries(Object.entries(attrs).map(([key, value]) => [key, plain(value)]));
}
