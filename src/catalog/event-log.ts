// The writer that a job has for its log lines: they are collected and written in batches, because a statement each would hold the job up.
// It must not keep a line back for longer than a second while the database answers, and must never throw.

import { setImmediate as yieldToOthers } from 'node:timers/promises';
import { type Clock, isoTime } from '../plumbing/clock.ts';
import type { Catalog } from './catalog.ts';
import { constraintOf } from './database-error.ts';
import { EVENT_BOUND, type EventBound, EventBuffer, type WaitingEvent } from './event-buffer.ts';
import { clipText, encodeAttrs, insertLogEvents, type NewLogEvent } from './log-events.ts';

export interface EventLog {
  /** Takes the line. Never throws, and writes at most one batch (where the program has not come to rest for most of a second). */
  append(event: NewLogEvent): void;
  /** Writes the lines so far. Never throws; false when the database did not take them: then they are kept. */
  flush(): Promise<boolean>;
  /** The last flush; what cannot be written now is lost, and `onFailure` is told. */
  close(): Promise<void>;
}

/** Milliseconds from a line to its batch, when the program waits for something meanwhile. */
const FLUSH_AFTER = 400;
/** Milliseconds after which `append` itself writes, because the program has not waited for anything. */
const LATE = 700;
/** Milliseconds between two attempts while the database does not answer. */
const RETRY_AFTER = 1000;
/** Lines in a batch: SQLite writes it in a few milliseconds, in which nothing else of this process runs. */
const BATCH = 250;

/** `onFailure` is told once each time the database begins to refuse lines: a log line is never the reason why a job fails. */
export function openEventLog(
  catalog: Catalog,
  jobId: string,
  onFailure: (error: unknown) => void,
  bound: EventBound = EVENT_BOUND,
): EventLog {
  const timestamp = microsecondTimestamps(catalog.clock);
  const writer = openWriter(catalog, jobId, onFailure, new EventBuffer(bound));
  return {
    append: ({ level, message, attrs, stepId }) => {
      const since = catalog.clock.monotonic();
      writer.add({ level, message: clipText(message), attrs: encodeAttrs(attrs), stepId, ts: timestamp(), since });
    },
    flush: writer.writeAll,
    close: async () => {
      const written = await writer.writeAll();
      writer.stop();
      if (!written) onFailure(new Error(`${writer.waiting()} of its lines could not be written`));
    },
  };
}

interface Writer {
  add(event: WaitingEvent): void;
  writeAll(): Promise<boolean>;
  waiting(): number;
  stop(): void;
}

function openWriter(catalog: Catalog, jobId: string, onFailure: (error: unknown) => void, buffer: EventBuffer): Writer {
  const { clock } = catalog;
  let batch: Promise<boolean> | undefined;
  /** By the steady clock; undefined while the database takes what it is given. */
  let retryAt: number | undefined;
  let timer: NodeJS.Timeout | undefined;
  const schedule = (milliseconds: number): void => {
    timer ??= setTimeout(() => {
      timer = undefined;
      void writeAll();
    }, milliseconds).unref();
  };
  const writeBatch = (): Promise<boolean> => {
    const lost = buffer.takeLost();
    const events = lost === undefined ? buffer.take(BATCH) : [lost, ...buffer.take(BATCH)];
    batch = write(catalog, jobId, events, buffer).then(
      () => {
        batch = undefined;
        retryAt = undefined;
        return true;
      },
      (error: unknown) => {
        batch = undefined;
        buffer.putBack(events);
        if (retryAt === undefined) onFailure(error);
        retryAt = clock.monotonic() + RETRY_AFTER;
        schedule(RETRY_AFTER);
        return false;
      },
    );
    return batch;
  };
  const writeAll = async (): Promise<boolean> => {
    while (batch !== undefined) await batch;
    if (retryAt !== undefined && clock.monotonic() < retryAt) return buffer.size === 0;
    // Those that come while these are written have their own turn.
    for (let left = buffer.size; left > 0 && buffer.size > 0; left -= BATCH) {
      if (!(await (batch ?? writeBatch()))) return false;
      if (left > BATCH) await yieldToOthers();
    }
    if (buffer.size > 0) schedule(FLUSH_AFTER);
    return true;
  };
  const add = (event: WaitingEvent): void => {
    buffer.append(event);
    schedule(FLUSH_AFTER);
    const late = clock.monotonic() - (buffer.waitingSince ?? event.since) > LATE;
    if (late && batch === undefined && retryAt === undefined) void writeBatch();
  };
  return { add, writeAll, waiting: () => buffer.size, stop: () => clearTimeout(timer) };
}

/** A batch that breaks a rule of the database (its job was removed meanwhile) is tried line by line, and what is refused is lost. */
async function write(catalog: Catalog, jobId: string, events: readonly WaitingEvent[], buffer: EventBuffer): Promise<void> {
  try {
    await insertLogEvents(catalog, jobId, events);
  } catch (error) {
    if (constraintOf(error) === undefined) throw error;
    for (const event of events) await insertLogEvents(catalog, jobId, [event]).catch(() => buffer.countLost(event));
  }
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
