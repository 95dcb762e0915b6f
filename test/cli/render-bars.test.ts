// Bars fit the terminal, whatever stands in them, and never draw something as nothing or nearly all as all.

import { expect, it } from 'vitest';
import { type BarLine, renderBars } from '../../src/cli/render-bars.ts';
import { textWidth } from '../../src/cli/text-width.ts';

const line = (name: string, used: number, reserved = 0, ...details: readonly string[]): BarLine => ({
  name,
  parts: { used, reserved },
  label: `${(used * 100).toFixed(1)} %`,
  details,
});

it('draws what is used, reserved and free, with what there is to say below', () => {
  const drawn = renderBars(
    [
      line('safe', 0.5, 0.1, '5 GiB free', 'full in 20 days'),
      { name: 'cloud', parts: undefined, label: '-', details: ['it does not tell'] },
    ],
    50,
  );
  expect(drawn).toBe(
    [
      `safe   [${'#'.repeat(16)}${'+'.repeat(3)}${'.'.repeat(13)}]  50.0 %`,
      '       5 GiB free · full in 20 days',
      `cloud  [?${' '.repeat(31)}]       -`,
      '       it does not tell',
      '',
    ].join('\n'),
  );
});

it('fits every width, with names of any kind', () => {
  const names = ['a', 'ein sehr langer Name, der nicht passt', '東京のバックアップ', '💾💾💾', 'esc\u001b[31m'];
  const lines = names.map((name, index) => line(name, index / 4, 0.1, 'some words that are longer than a narrow terminal is wide, by far'));
  for (const columns of [30, 40, 80, 132, 400]) {
    const drawn = renderBars(lines, columns).trimEnd().split('\n');
    expect(drawn.length).toBe(2 * lines.length);
    for (const one of drawn) expect(textWidth(one), `${columns}: ${one}`).toBeLessThan(columns);
    expect(drawn.join('')).not.toContain('\u001b');
    expect(new Set(drawn.filter((_, index) => index % 2 === 0).map((one) => textWidth(one.slice(0, one.lastIndexOf(']'))))).size).toBe(1);
  }
});

it('a little is one cell, and all but a little leaves one', () => {
  const cells = (used: number, reserved = 0) => /\[(.*)\]/.exec(renderBars([line('a', used, reserved)], 40))?.[1] ?? '';
  expect(cells(0)).toMatch(/^\.+$/);
  expect(cells(0.0001)).toMatch(/^#\.+$/);
  expect(cells(0.9999)).toMatch(/^#+\.$/);
  expect(cells(1)).toMatch(/^#+$/);
  expect(cells(0.5, 0.5)).toMatch(/^#+\++$/);
});
