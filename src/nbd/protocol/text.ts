// Strings on the wire: UTF-8, without a NUL, at most 4096 bytes; their length always stands in front of them.
// Must not repair anything: a string that is not exactly right is refused.

/** "MUST be no longer than 4096 bytes" (Conventions). */
export const MOST_TEXT_BYTES = 4096;

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Undefined for what is not a string of the protocol. */
export function parseText(bytes: Uint8Array): string | undefined {
  if (bytes.length > MOST_TEXT_BYTES || bytes.includes(0)) return undefined;
  try {
    return strict.decode(bytes);
  } catch {
    return undefined; // not UTF-8
  }
}

/** Can it be sent as a string of the protocol? */
export function isText(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0') && Buffer.byteLength(text) <= MOST_TEXT_BYTES;
}

/** Throws RangeError: what we send was checked where it came in. */
export function encodeText(text: string): Buffer {
  if (!isText(text)) throw new RangeError('not a string of the NBD protocol: it holds a NUL or is longer than 4096 bytes');
  return Buffer.from(text);
}
