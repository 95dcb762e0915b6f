// The place where the model's processes work: the repository's blobs, the catalog's rows, and the single steps that change them.
// A step happens whole or not at all; what comes between two steps is the business of scheduler.ts.

import type { Blob, Blobs, Image, Sidecar } from './blobs.ts';
import type { Content, Disk } from './disk-model.ts';
import type { Rules } from './rules.ts';

/** A line of the catalog. It is an index: the repository decides. */
export interface Row {
  readonly state: 'running' | 'completed' | 'deleting';
  readonly parent: string | null;
  readonly generation: number;
  readonly root: string;
  readonly digestsRoot: string;
}
export type Rows = Map<string, Row>;

export function completedRow({ parent, generation, root, digestsRoot }: Sidecar): Row {
  return { state: 'completed', parent, generation, root, digestsRoot };
}

export interface Site {
  readonly rules: Rules;
  readonly blobs: Blobs;
  /** Images fully written that have no name yet. Small blobs are put in one request. */
  readonly staged: Set<Image>;
  readonly rows: Rows;
  /** Grows with every change of a blob. */
  version: number;
  /** For new ids and generations. */
  counter: number;
  readonly source: Disk;
  /** What every backup ever begun must read as. */
  readonly truth: Map<string, { readonly content: Content; readonly size: number }>;
}

/** One step. `absent`: create-only; a blob: only while that very blob lies there; `always`: whatever lies there. */
export type Op =
  | { readonly op: 'put'; readonly name: string; readonly blob: Blob; readonly when: 'absent' | 'always' | Blob }
  | { readonly op: 'stage'; readonly image: Image }
  | { readonly op: 'finish'; readonly name: string; readonly image: Image; readonly when: 'absent' | 'always' }
  | { readonly op: 'delete'; readonly name: string }
  | { readonly op: 'fence' }
  | { readonly op: 'rows'; readonly what: string; readonly change: (rows: Rows) => void };

/** `done`, or why not. */
export type Outcome = string;
export const DONE: Outcome = 'done';

/** A process: it yields a step, is told whether the step took effect, and may be gone at any `yield`. */
export type Process = Generator<Op, Outcome, boolean>;

export function openSite(rules: Rules, size: number): Site {
  const source = { size, clusters: Array.from({ length: Math.ceil(size / 2) }, () => 0) };
  return {
    rules,
    blobs: new Map(),
    staged: new Set(),
    rows: new Map(),
    version: 0,
    counter: 0,
    source,
    truth: new Map(),
  };
}

/** True when the step took effect. */
export function perform(site: Site, step: Op): boolean {
  if (step.op !== 'rows') site.version++;
  switch (step.op) {
    case 'rows':
      step.change(site.rows);
      return true;
    case 'put':
      return putBlob(site, step.name, step.blob, step.when);
    case 'stage':
      site.staged.add(step.image);
      return true;
    case 'finish':
      return site.staged.delete(step.image) && putBlob(site, step.name, step.image, step.when);
    case 'delete':
      return site.blobs.delete(step.name);
    case 'fence':
      site.staged.clear();
      return true;
  }
}

function putBlob(site: Site, name: string, blob: Blob, when: 'absent' | 'always' | Blob): boolean {
  const there = site.blobs.get(name);
  if (when === 'absent' ? there !== undefined : when !== 'always' && there !== when) return false;
  site.blobs.set(name, blob);
  return true;
}

export function describe(step: Op): string {
  switch (step.op) {
    case 'put':
      return `put ${step.name}`;
    case 'finish':
      return `replace or create ${step.name}, generation ${step.image.generation}`;
    case 'stage':
      return `write image of ${step.image.id}, generation ${step.image.generation}, nameless`;
    case 'delete':
      return `delete ${step.name}`;
    case 'fence':
      return 'fence: drop what is staged';
    case 'rows':
      return `catalog: ${step.what}`;
  }
}
