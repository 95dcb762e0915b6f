// The tables of outcomes in the guide, as lists of cases for tests.

import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import type { RescanOutcome } from '../../src/app-interface.ts';

/** The lines of the table with this head, as cells. */
export function readOutcomes(head: string): readonly (readonly string[])[] {
  const page = readFileSync('docs/guide/07-rescan.md', 'utf8');
  if (!page.includes(head)) throw new Error(`the guide has no table with the head ${head}`);
  const lines = page.slice(page.indexOf(head)).split('\n').slice(2);
  return lines.slice(0, lines.indexOf('')).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

/** A cell may stand for several cases. */
export const each = (cell: string): readonly string[] => cell.split(', ');

export function oneOf<const Word extends string>(text: string, words: readonly Word[]): Word {
  const found = words.find((word) => word === text);
  if (found === undefined) throw new Error(`the table says "${text}" where it may say ${words.join(', ')}`);
  return found;
}

interface MadeCase {
  readonly line: { readonly sidecar: string; readonly counted: string };
  readonly backup: { readonly backup_id: string };
}

/** What a rescan must count of the cases, without what a second one finds already done. */
export function expectedCounts(cases: readonly MadeCase[], done: readonly string[] = []): object {
  const idsOf = (name: string): readonly string[] =>
    cases.flatMap(({ line, backup }) => (each(line.counted).includes(name) && !done.includes(name) ? [backup.backup_id] : [])).toSorted();
  return {
    found: cases.filter(({ line }) => line.sidecar === 'valid').length,
    added: idsOf('added').length,
    changed: idsOf('changed').length,
    in_progress: idsOf('in progress').length,
    damaged: idsOf('damaged'),
    missing: idsOf('missing'),
  };
}

export function countsOf({
  found,
  added,
  changed,
  in_progress,
  damaged,
  damaged_backups,
  missing,
  missing_backups,
}: RescanOutcome): object {
  expect([damaged, missing]).toEqual([damaged_backups.length, missing_backups.length]);
  return {
    ...{ found, added, changed, in_progress },
    damaged: damaged_backups.map(({ backup_id }) => backup_id).toSorted(),
    missing: missing_backups.toSorted(),
  };
}
