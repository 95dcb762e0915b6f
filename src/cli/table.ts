// Rows of cells as an aligned table. Cells are made safe here; a cell longer than its column may be is cut with an ellipsis.

import { safeText } from './safe-text.ts';
import { cutToWidth, padToWidth, textWidth } from './text-width.ts';

export interface Column<Row> {
  readonly title: string;
  readonly cell: (row: Row) => string;
  /** Numbers stand at the right; default left. */
  readonly side?: 'left' | 'right';
}

/** Printable ASCII: as wide as it is long, and nothing in it to make safe. */
const PLAIN = /^[\x20-\x7e]*$/;

/** Columns that no cell exceeds: ids (64 characters) fit, a name of 4 KiB does not break the table. */
const MAX_CELL = 64;

/** The table with a line of titles, each line ended by a newline; trailing blanks are dropped. */
export function renderTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const filled = columns.map((column) => fillColumn(column, rows));
  const lines: string[] = [];
  for (let line = 0; line <= rows.length; line++) {
    let text = '';
    for (const cells of filled) text += text === '' ? (cells[line] ?? '') : `  ${cells[line] ?? ''}`;
    lines.push(text.trimEnd());
  }
  return `${lines.join('\n')}\n`;
}

/** The title and all cells of a column, padded to the widest of them. */
function fillColumn<Row>({ title, cell, side }: Column<Row>, rows: readonly Row[]): string[] {
  const texts = [title];
  const widths = [textWidth(title)];
  for (const row of rows) {
    const text = cell(row);
    // Ten thousand rows are nearly all like this; one look is enough for them.
    const plain = text.length <= MAX_CELL && PLAIN.test(text);
    const shown = plain ? text : cutToWidth(safeText(text), MAX_CELL);
    texts.push(shown);
    widths.push(plain ? text.length : textWidth(shown));
  }
  const widest = widths.reduce((most, width) => Math.max(most, width), 0);
  return texts.map((text, line) => padToWidth(text, widest - (widths[line] ?? 0), side ?? 'left'));
}

/** Names and values below each other; a value may be longer than a cell of a table. Undefined and null values are shown as `-`. */
export function renderFields(fields: Readonly<Record<string, string | null | undefined>>): string {
  const width = Object.keys(fields).reduce((widest, name) => Math.max(widest, name.length), 0);
  return Object.entries(fields)
    .map(([name, value]) => `${name.padEnd(width)}  ${safeText(value ?? '-')}\n`)
    .join('');
}
