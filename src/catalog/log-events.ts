// The table of log lines, and the writer that a job has for its own.
// It must not keep lines back: a process that is killed loses none that it has logged.

import { type Clock, isoTime } from '../plumbing/clock.ts';
import type { LogLevel } from '../plumbing/logger.ts';
import type { Catalog } from './catalog.ts';
import { instant, integer, type JsonObject, json, longText, nullable, oneOf, text } from './column.ts';
import { sql } from './sql.ts';
import { defineTable, insert, select, type TableRow } from './table.ts';

export const LOG_EVENTS = defineTable('log_events', {
  id: integer,
  job_id: text(64),
  step_id: nullable(text(64)),
  level: oneOf(['debug', 'info', 'warn', 'error']),
  message: longText,
  attrs: nullable(json),
  ts: instant,
});

export type LogEvent = TableRow<typeof LOG_EVENTS>;

export interface NewLogEvent {
  readonly level: LogLevel;
  readonly message: string;
  readonly attrs?: Readonly<Record<string, unknown>> | undefined;
  readonly stepId: string | null;
}

export interface EventLog {
  /** Hands the line to the database at once; it is durable with the next change of state. Never throws. */
  append(event: NewLogEvent): void;
  /** Waits for the lines before. Never throws. */
  flush(): Promise<void>;
}

/** `onFailure` is told of each line that could not be written: a log line is never the reason why a job fails. */
export function openEventLog(catalog: Catalog, jobId: string, onFailure: (error: unknown) => void): EventLog {
  const timestamp = microsecondTimestamps(catalog.clock);
  let written: Promise<unknown> = Promise.resolve();
  return {
    append: (event) => {
      const write = insertLogEvent(catalog, jobId, event, timestamp()).catch(onFailure);
      written = Promise.all([written, write]);
    },
    flush: async () => {
      await written;
    },
  };
}

/** One line outside of a running job. */
export function insertLogEvent(
  catalog: Catalog,
  jobId: string,
  { level, message, attrs, stepId }: NewLogEvent,
  ts = isoTime(catalog.clock.now()),
): Promise<void> {
  const row = { job_id: jobId, step_id: stepId, level, message, attrs: plainAttrs(attrs), ts };
  return insert(catalog, LOG_EVENTS, row, { durable: false });
}

export function listLogEvents(catalog: Catalog, jobId: string): Promise<readonly LogEvent[]> {
  return select(catalog, LOG_EVENTS, sql`where job_id = ${jobId} order by ts, id`);
}

/** The wall clock with the precision of the steady one, always ascending within one log. */
function microsecondTimestamps(clock: Clock): () => string {
  let wall = clock.now();
  let steady = clock.monotonic();
  let newest = 0;
  return () => {
    const drift = wall + clock.monotonic() - steady - clock.now();
    if (Math.abs(drift) > 2) {
      wall = clock.now();
      steady = clock.monotonic();
    }
    newest = Math.max(Math.floor((wall + clock.monotonic() - steady) * 1000), newest + 1);
    const microseconds = String(newest % 1000).padStart(3, '0');
    return isoTime(Math.floor(newest / 1000)).replace('Z', `${microseconds}Z`);
  };
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
