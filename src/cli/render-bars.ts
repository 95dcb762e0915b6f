// Bars on a terminal: a name, how much of a whole is taken, a number, and what there is to say below it. As wide as the terminal, never wider.
// It must not know what the bars stand for.

import { safeText } from './safe-text.ts';
import { cutToWidth, padToWidth, textWidth } from './text-width.ts';

export interface BarLine {
  readonly name: string;
  /** Parts of the whole, 0 to 1; undefined where nothing is known. */
  readonly parts: { readonly used: number; readonly reserved: number } | undefined;
  readonly label: string;
  readonly details: readonly string[];
}

const MOST_NAME = 30;
const MOST_BAR = 60;
const LEAST_BAR = 10;

/** `columns`: of the terminal. */
export function renderBars(lines: readonly BarLine[], columns: number): string {
  const names = lines.map(({ name }) => cutToWidth(safeText(name), Math.min(MOST_NAME, Math.max(4, Math.floor(columns / 3)))));
  const nameWidth = Math.max(...names.map(textWidth));
  const labelWidth = Math.max(...lines.map(({ label }) => textWidth(label)));
  // The last column stays free: a line that fills it makes some terminals begin another one.
  const barWidth = Math.min(MOST_BAR, Math.max(LEAST_BAR, columns - 1 - nameWidth - labelWidth - 6));
  return lines
    .map(({ parts, label, details }, index) => {
      const name = names[index] ?? '';
      const padded = padToWidth(name, nameWidth - textWidth(name), 'left');
      const number = padToWidth(label, labelWidth - textWidth(label), 'right');
      const first = `${padded}  [${drawBar(parts, barWidth)}]  ${number}`;
      const below = `${' '.repeat(nameWidth + 2)}${safeText(details.join(' · '))}`;
      return [first, below].map((line) => `${cutToWidth(line, columns - 1).trimEnd()}\n`).join('');
    })
    .join('');
}

/** What is used in #, what is reserved in +, what is free in dots. Something is never drawn as nothing, nor anything but all as all. */
function drawBar(parts: BarLine['parts'], width: number): string {
  if (!parts) return '?'.padEnd(width, ' ');
  const used = cellsOf(parts.used, width);
  const reserved = Math.min(width - used, cellsOf(parts.reserved, width));
  return '#'.repeat(used) + '+'.repeat(reserved) + '.'.repeat(width - used - reserved);
}

function cellsOf(part: number, width: number): number {
  if (part <= 0) return 0;
  if (part >= 1) return width;
  return Math.min(width - 1, Math.max(1, Math.round(part * width)));
}
