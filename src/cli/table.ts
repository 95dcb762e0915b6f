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

interface Cell {
  readonly text: string;
  readonly width: number;
}

/** The table with a line of titles, each line ended by a newline; trailing blanks are dropped. */
export function renderTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  // Names, types and sizes come again and again in ten thousand rows: each text is looked at once.
  const known = new Map<string, Cell>();
  const filled = columns.map((column) => fillColumn(column, rows, known));
  const lines: string[] = [];
  for (let line = 0; line <= rows.length; line++) {
    lines.push(
      filled
        .map((cells) => cells[line] ?? '')
        .join('  ')
        .trimEnd(),
    );
  }
  return `${lines.join('\n')}\n`;
}

/** The title and all cells of a column, padded to the widest of them. */
function fillColumn<Row>({ title, cell, side }: Column<Row>, rows: readonly Row[], known: Map<string, Cell>): string[] {
  const cells = [{ text: title, width: textWidth(title) }, ...rows.map((row) => showCell(cell(row), known))];
  const width = cells.reduce((widest, { width }) => Math.max(widest, width), 0);
  return cells.map((shown) => padToWidth(shown.text, width - shown.width, side ?? 'left'));
}

/** Names and values below each other; a value may be longer than a cell of a table. Undefined and null values are shown as `-`. */
export function renderFields(fields: Readonly<Record<string, string | null | undefined>>): string {
  const width = Object.keys(fields).reduce((widest, name) => Math.max(widest, name.length), 0);
  return Object.entries(fields)
    .map(([name, value]) => `${name.padEnd(width)}  ${safeText(value ?? '-')}\n`)
    .join('');
}

function showCell(text: string, known: Map<string, Cell>): Cell {
  let cell = known.get(text);
  if (!cell) {
    const shown = cutToWidth(safeText(text), MAX_CELL);
    cell = { text: shown, width: textWidth(shown) };
    known.set(text, cell);
  }
  return cell;
}
