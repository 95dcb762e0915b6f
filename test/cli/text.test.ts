import { describe, expect, it } from 'vitest';
import { safeJson, safeText } from '../../src/cli/safe-text.ts';
import { formatSize, parseSize } from '../../src/cli/size-text.ts';
import { renderFields, renderTable } from '../../src/cli/table.ts';
import { cutToWidth, padToWidth, textWidth } from '../../src/cli/text-width.ts';
import { formatDuration, formatTime, parseTime } from '../../src/cli/time-text.ts';
import { ChainkeepError } from '../../src/plumbing/errors.ts';

describe('safe text', () => {
  it.for([
    ['two\nlines', 'two\\nlines'],
    ['\x1b[2J\x07', '\\x1b[2J\\x07'],
    ['\u009b31m', '\\x9b31m'],
    ['photo\u202egpj.exe', 'photo\\u{202e}gpj.exe'],
    ['a\u2028b\u2066c\u200bd', 'a\\u{2028}b\\u{2066}c\\u{200b}d'],
    ['half \ud83d pair', 'half \\u{d83d} pair'],
    ['Schöne 文字 👩‍👩‍👧', 'Schöne 文字 👩‍👩‍👧'],
  ] as const)('%j', ([raw, shown]) => {
    expect(safeText(raw)).toBe(shown);
  });

  it('keeps JSON the same value and makes it safe to print', () => {
    const value = { name: 'a\nb\x1b\x7f\u009b\u202e\u2028', list: ['文字 👩‍👧', '\ud83d'] };
    const text = safeJson(value);
    expect(JSON.parse(text)).toEqual(value);
    expect(text.replaceAll('\n', '')).toBe(safeText(text.replaceAll('\n', '')));
  });
});

describe('sizes', () => {
  it.for([
    ['0', 0],
    ['512', 512],
    ['64k', 65_536],
    ['64K', 65_536],
    ['3m', 3_145_728],
    ['10G', 10_737_418_240],
    ['2T', 2_199_023_255_552],
    ['7p', 7_881_299_347_898_368],
  ] as const)('%s is %d bytes', ([text, bytes]) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it.for(['', 'k', '-1', '1.5G', '64 k', '0x10', '64kb', '64kk', '1e3', '9007199254740992', '9P', '１'])('"%s" is wrong usage', (text) => {
    expect(() => parseSize(text)).toThrow(ChainkeepError);
    expect(() => parseSize(text)).toThrow(`"${text}" is not a size`);
  });

  it.for([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [1024 * 1024 - 1, '1.0 MiB'],
    [1.5 * 1024 ** 3, '1.5 GiB'],
    [16 * 1024 ** 4, '16.0 TiB'],
    [2 ** 60, '1024.0 PiB'],
  ] as const)('%d bytes are shown as %s', ([bytes, text]) => {
    expect(formatSize(bytes)).toBe(text);
  });
});

describe('times', () => {
  it.for([
    ['2026-11-22T14:05:09Z', '2026-11-22T14:05:09.000Z'],
    ['2026-11-22 14:05', '2026-11-22T14:05:00.000Z'],
    ['2026-11-22t14:05:09.25+01:30', '2026-11-22T12:35:09.250Z'],
    ['2024-02-29 00:00-12:00', '2024-02-29T12:00:00.000Z'],
  ] as const)('%s is %s', ([text, instant]) => {
    expect(parseTime(text)).toBe(instant);
  });

  it.for(['', 'now', '2026-11-22', '2026-02-30T00:00Z', '2026-13-01T00:00Z', '2026-11-22T24:30Z', '2026-11-22T14:05:09Zz'])(
    '%j is none',
    (text) => {
      expect(() => parseTime(text)).toThrow(expect.objectContaining({ code: 'USAGE' }));
    },
  );

  it('are shown in local time', () => {
    const local = new Date(2026, 10, 22, 4, 5, 9);
    expect(formatTime(local.toISOString())).toBe('2026-11-22 04:05:09');
    expect(formatTime(null)).toBe('-');
    expect(formatTime('never')).toBe('never');
  });

  it.for([
    [0, '0 ms'],
    [999, '999 ms'],
    [12_340, '12.3 s'],
    [59_960, '1 min 00 s'],
    [245_000, '4 min 05 s'],
    [7_800_000, '2 h 10 min'],
  ] as const)('%d ms last %s', ([milliseconds, text]) => {
    expect(formatDuration(milliseconds)).toBe(text);
  });
});

describe('width', () => {
  it.for([
    ['plain', 5],
    ['é', 1],
    ['e\u0301', 1],
    ['文字', 4],
    ['👩‍👩‍👧', 2],
    ['☁️', 2],
    ['한글', 4],
    ['ｗｉｄｅ', 8],
    ['', 0],
  ] as const)('"%s" takes %d columns', ([text, columns]) => {
    expect(textWidth(text)).toBe(columns);
  });

  it('cuts to columns, never through a character', () => {
    expect(cutToWidth('backup', 6)).toBe('backup');
    expect(cutToWidth('backups', 6)).toBe('backu…');
    expect(cutToWidth('文字文字', 8)).toBe('文字文字');
    expect(cutToWidth('文字文字', 6)).toBe('文字…');
    expect(textWidth(cutToWidth('👩‍👩‍👧'.repeat(1000), 41))).toBeLessThanOrEqual(41);
  });

  it('fills up with blanks', () => {
    expect(padToWidth('文', 2, 'left')).toBe('文  ');
    expect(padToWidth('7', 2, 'right')).toBe('  7');
    expect(padToWidth('longer', 0, 'left')).toBe('longer');
  });
});

describe('tables', () => {
  const columns = [
    { title: 'NAME', cell: (row: { name: string; size: number }) => row.name },
    { title: 'SIZE', cell: (row: { name: string; size: number }) => String(row.size), side: 'right' as const },
    { title: 'END', cell: () => '' },
  ];

  it('are aligned, also with wide characters, and have no blanks at the end', () => {
    expect(
      renderTable(columns, [
        { name: '文字', size: 5 },
        { name: 'a', size: 1234 },
      ]),
    ).toBe(['NAME  SIZE  END', '文字     5', 'a     1234', ''].join('\n'));
  });

  it('show unsafe and endless cells on one short line', () => {
    const text = renderTable(columns, [{ name: `x\ny${'👻'.repeat(1024)}`, size: 1 }]);
    expect(text.split('\n')).toHaveLength(3);
    expect(text).toContain('x\\ny👻');
    expect(textWidth(text.split('\n')[1] ?? '')).toBeLessThan(80);
  });

  it('show fields below each other, an unknown one as a dash', () => {
    expect(renderFields({ id: 'a', 'long name': null, bad: '\r' })).toBe('id         a\nlong name  -\nbad        \\r\n');
  });
});
