// The tables of outcomes in the guide, as lists of cases for tests.

import { readFileSync } from 'node:fs';

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
