// What a job is given, and what is said of it.
// It must not know how jobs are stored or run.

import type { Catalog } from '../catalog/catalog.ts';
import type { Logger } from '../plumbing/logger.ts';

export interface JobSpec {
  /** The kind: backup, verify, restore, delete, repository … */
  readonly jobType: string;
  /** What it does, for people: "backup of web-1, disk 0". */
  readonly operation: string;
  /** The VM it is about. */
  readonly contextId?: string;
  readonly parentJobId?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
}

export interface JobContext {
  readonly jobId: string;
  /** Fires when the caller or somebody else wants the job to stop (CANCELLED), and when another process has settled it (JOB_LOST). */
  readonly signal: AbortSignal;
  /** Writes to the job log; inside a step the lines belong to it. */
  readonly logger: Logger;
  /** Runs a part of the job as a step with an outcome of its own. Its start and its end are durable when the next thing happens. */
  step<T>(name: string, run: () => Promise<T>): Promise<T>;
  /** Runs a part of the job as a job of its own, which names this one as its parent and ends when this one is cancelled. */
  child<T>(
    spec: Omit<JobSpec, 'parentJobId'>,
    run: (context: JobContext) => Promise<T>,
  ): Promise<{ readonly jobId: string; readonly result: T }>;
  /** `total` is 0 until it is known. Cheap: may be called for every cluster. */
  progress(phase: string, done: number, total: number): void;
  /** The VM the job is about, where that was not known when it began: found or made, and entered, as one unit. Durable when it resolves. */
  setContext<Context extends { readonly context_id: string }>(find: (unit: Catalog) => Promise<Context>): Promise<Context>;
  /** Adds to the metadata of the job; durable when it resolves. */
  setMetadata(values: Readonly<Record<string, unknown>>): Promise<void>;
  /** An error ends the job no more: what it has begun is between two sides, and whoever settles dead jobs (recover.ts) finishes or undoes it. */
  leaveUnended(): void;
}

/** What the job log holds of an operation or the name of a step; names and paths in it may be longer than that. */
const LONGEST_TITLE = 191;

export function shorten(title: string): string {
  const characters = Array.from(title);
  return characters.length <= LONGEST_TITLE ? title : `${characters.slice(0, LONGEST_TITLE - 1).join('')}…`;
}
