// Rows of cells as an aligned table. Cells are made safe here; a cell longer than its column may be is cut with an ellipsis.

import { safeText } from './safe-text.ts';
import { cutToWidth, padToWidth, textWidth } from './text-width.ts';

export interface Column<Row> {
  readonly title: string;
  readonly cell: (row: Row) => string;
  /** Numbers stand at the right; default left. */
  readonly side?: 'left' | 'right';
}

/** Columns that no cell exceeds: ids (64 characters) fit, a name of 4 KiB does not break the table. */
const MAX_CELL = 64;

/** The table with a line of titles, each line ended by a newline; trailing blanks are dropped. */
export function renderTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const lines = [columns.map((column) => column.title), ...rows.map((row) => columns.map((column) => showCell(column.cell(row))))];
  const widths = columns.map((_, index) => lines.reduce((widest, line) => Math.max(widest, textWidth(line[index] ?? '')), 0));
  return lines
    .map((line) => line.map((cell, index) => padToWidth(cell, widths[index] ?? 0, columns[index]?.side ?? 'left')).join('  '))
    .map((line) => `${line.trimEnd()}\n`)
    .join('');
}

/** Names and values below each other; a value may be longer than a cell of a table. Undefined and null values are shown as `-`. */
export function renderFields(fields: Readonly<Record<string, string | null | undefined>>): string {
  const width = Object.keys(fields).reduce((widest, name) => Math.max(widest, name.length), 0);
  return Object.entries(fields)
    .map(([name, value]) => `${name.padEnd(width)}  ${safeText(value ?? '-')}\n`)
    .join('');
}

function showCell(text: string): string {
  return cutToWidth(safeText(text), MAX_CELL);
}
