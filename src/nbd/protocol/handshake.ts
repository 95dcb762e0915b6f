// The first words of both sides, and the answer to the oldest way of choosing an export.
// It must not decide what the flags mean for a connection; it says what was sent.

import { readU64, writeU64 } from '../../plumbing/big-endian.ts';
import { hex, protocolBreach } from './breach.ts';
import { dataView } from './view.ts';

/**
 * Greeting of the server (newstyle):
 *    0  u64  "NBDMAGIC"
 *    8  u64  "IHAVEOPT"; in the old style, which nobody should speak any more, another number
 *   16  u16  handshake flags
 * The client answers with u32 client flags.
 */
export const GREETING_LENGTH = 18;
export const CLIENT_FLAGS_LENGTH = 4;
const MAGIC = Buffer.from('NBDMAGIC');
export const OPTION_MAGIC = Buffer.from('IHAVEOPT');
const OLDSTYLE_MAGIC = Buffer.from('0000420281861253', 'hex');

/** The same two bits on both sides. */
export const HANDSHAKE_FLAG = { FIXED_NEWSTYLE: 1, NO_ZEROES: 2 } as const;

export function encodeGreeting(flags: number): Buffer {
  const bytes = Buffer.alloc(GREETING_LENGTH);
  MAGIC.copy(bytes);
  OPTION_MAGIC.copy(bytes, 8);
  bytes.writeUInt16BE(flags, 16);
  return bytes;
}

/** The handshake flags. Throws NBD_PROTOCOL for anything that is not a newstyle greeting. */
export function parseGreeting(bytes: Uint8Array): number {
  if (!MAGIC.equals(bytes.subarray(0, 8))) throw protocolBreach('it does not greet like an NBD server');
  const second = bytes.subarray(8, 16);
  if (OLDSTYLE_MAGIC.equals(second)) throw protocolBreach('it speaks only the old style, without negotiation');
  if (!OPTION_MAGIC.equals(second)) throw protocolBreach('its greeting is of no known style');
  return dataView(bytes).getUint16(16);
}

export function encodeClientFlags(flags: number): Buffer {
  const bytes = Buffer.alloc(CLIENT_FLAGS_LENGTH);
  bytes.writeUInt32BE(flags);
  return bytes;
}

/** Throws NBD_PROTOCOL for flags that nobody knows: what they would change cannot be guessed. */
export function parseClientFlags(bytes: Uint8Array): number {
  const flags = dataView(bytes).getUint32(0);
  if ((flags & ~(HANDSHAKE_FLAG.FIXED_NEWSTYLE | HANDSHAKE_FLAG.NO_ZEROES)) !== 0)
    throw protocolBreach(`client flags ${hex(flags)}`, { flags });
  return flags;
}

/**
 * Answer to NBD_OPT_EXPORT_NAME, which has no other:
 *    0  u64  size of the export in bytes
 *    8  u16  transmission flags
 *   10       124 zeros, unless NO_ZEROES was agreed on
 */
export const EXPORT_ANSWER_LENGTH = 10;
export const EXPORT_ANSWER_ZEROS = 124;

export interface ExportAnswer {
  /** Bytes; Infinity where it is 2^53 or more. */
  readonly size: number;
  readonly flags: number;
}

export function encodeExportAnswer({ size, flags }: ExportAnswer, zeros: boolean): Buffer {
  const bytes = Buffer.alloc(EXPORT_ANSWER_LENGTH + (zeros ? EXPORT_ANSWER_ZEROS : 0));
  writeU64(dataView(bytes), 0, size);
  bytes.writeUInt16BE(flags, 8);
  return bytes;
}

export function parseExportAnswer(bytes: Uint8Array): ExportAnswer {
  const view = dataView(bytes);
  return { size: readU64(view, 0), flags: view.getUint16(8) };
}
