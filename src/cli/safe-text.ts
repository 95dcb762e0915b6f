// Text from outside (names, paths, messages of other programs) made safe for a terminal.
// Must be applied to everything that is printed and did not come from our own source.

/**
 * What must not reach a terminal raw: control characters (they move the cursor, ring, recolour), line separators, bidirectional
 * controls (they let a name read as another), lone surrogates, and characters without any width that hide in names.
 */
const UNSAFE = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}\u{ad}\u{200b}\u{2060}\u{feff}]/gu;

/** Nearly every text: tested faster than it is replaced. */
const PLAIN = /^[\x20-\x7e]*$/;

const SHORT: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** The text on one line, unsafe characters shown as `\n`, `\x1b` or `\u{202e}`. */
export function safeText(text: string): string {
  if (PLAIN.test(text)) return text;
  return text.replace(UNSAFE, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return SHORT[character] ?? (code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`);
  });
}

/** Nearly every document: nothing in it but printable ASCII and the ends of its own lines. */
const PLAIN_LINES = /^[\x20-\x7e\n]*$/;

/** JSON that reads the same and is safe to print: unsafe characters inside strings stand as `\uXXXX`. */
export function safeJson(value: unknown): string {
  const text = JSON.stringify(value, null, 2);
  if (PLAIN_LINES.test(text)) return text;
  return text.replace(UNSAFE, (character) =>
    character === '\n' ? character : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
