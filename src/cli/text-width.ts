// How many columns of a terminal a text takes, and cutting it to a number of them. Reasonable, not exact: terminals differ.

const WIDE =
  /[\p{Emoji_Presentation}\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\u{3000}-\u{303e}\u{ff01}-\u{ff60}\u{ffe0}-\u{ffe6}]|\u{fe0f}/u;
const NO_WIDTH = /^[\p{Mark}\p{Cf}]+$/u;
const PLAIN = /^[\x20-\x7e]*$/;

let segmenter: Intl.Segmenter | undefined;

/** What a reader sees as one character each. */
function* graphemes(text: string): Iterable<string> {
  segmenter ??= new Intl.Segmenter();
  for (const { segment } of segmenter.segment(text)) yield segment;
}

function graphemeWidth(grapheme: string): number {
  if (NO_WIDTH.test(grapheme)) return 0;
  return WIDE.test(grapheme) ? 2 : 1;
}

/** Columns that `text` takes. */
export function textWidth(text: string): number {
  if (PLAIN.test(text)) return text.length;
  let width = 0;
  for (const grapheme of graphemes(text)) width += graphemeWidth(grapheme);
  return width;
}

/** `text`, or as much of it as fits `columns` with an ellipsis at the end. */
export function cutToWidth(text: string, columns: number): string {
  if (text.length <= columns && PLAIN.test(text)) return text;
  let width = 0;
  let kept = '';
  let fits = ''; // what still leaves room for the ellipsis
  for (const grapheme of graphemes(text)) {
    width += graphemeWidth(grapheme);
    if (width > columns) return `${fits}…`;
    kept += grapheme;
    if (width < columns) fits = kept;
  }
  return text;
}

/** `text` with `blanks` blanks behind it (side left) or in front of it. */
export function padToWidth(text: string, blanks: number, side: 'left' | 'right'): string {
  return side === 'right' ? ' '.repeat(blanks) + text : text + ' '.repeat(blanks);
}
