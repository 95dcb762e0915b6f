// JSON that carries a checksum over its own bytes, for sidecars and markers: a person can read it, and no byte of it is uncovered.
// There is exactly one encoding of a value; anything else is damage.

import { type Blake3, hex } from '../plumbing/blake3.ts';

// The last line of the object; everything in front of it is covered, and what is behind is fixed.
const SEAL = /,\n {2}"checksum": "blake3:([0-9a-f]{64})"\n\}\n$/;

export function encodeSealed(blake3: Blake3, value: object): Buffer {
  const text = JSON.stringify(value, null, 2);
  const body = text.slice(0, text.lastIndexOf('\n}'));
  const seal = hex(blake3.hash(Buffer.from(body)));
  return Buffer.from(`${body},\n  "checksum": "blake3:${seal}"\n}\n`);
}

export type Unsealed = { readonly value: Readonly<Record<string, unknown>> } | { readonly fault: string };

/** The object without its checksum, or what is wrong with the bytes. */
export function parseSealed(blake3: Blake3, bytes: Uint8Array): Unsealed {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = buffer.toString('utf8');
  const match = SEAL.exec(text);
  if (!match) return { fault: 'it does not end in a checksum' };
  const body = text.slice(0, match.index);
  if (hex(blake3.hash(Buffer.from(body))) !== match[1]) return { fault: 'its checksum does not fit' };
  // Bytes that are not UTF-8 decode to replacement characters and would escape the checksum of the text.
  if (!Buffer.from(text).equals(buffer)) return { fault: 'it is not UTF-8' };
  let value: unknown;
  try {
    value = JSON.parse(`${body}\n}`);
  } catch {
    return { fault: 'it is not JSON' };
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return { fault: 'it is not an object' };
  return { value: value as Readonly<Record<string, unknown>> };
}
