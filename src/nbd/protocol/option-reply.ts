// What a server answers to an option: the head of a reply, the numbers of all kinds, and the entry of a list of exports.

import { readU64, writeU64 } from '../../plumbing/big-endian.ts';
import { hex, protocolBreach } from './breach.ts';
import { encodeText, parseText } from './text.ts';
import { dataView } from './view.ts';

/**
 *    0  u64  0x3e889045565a9
 *    8  u32  option that is answered
 *   12  u32  kind of the reply; bit 31: an error, and the last reply to this option
 *   16  u32  length of the data
 *   20       data; for errors a text for people
 */
export const OPTION_REPLY_HEAD_LENGTH = 20;
const MAGIC = 0x3e889045565a9;
const ERROR_BIT = 0x8000_0000;

export const REPLY = {
  ACK: 1,
  SERVER: 2,
  INFO: 3,
  META_CONTEXT: 4,
  ERR_UNSUP: ERROR_BIT + 1,
  ERR_POLICY: ERROR_BIT + 2,
  ERR_INVALID: ERROR_BIT + 3,
  ERR_PLATFORM: ERROR_BIT + 4,
  ERR_TLS_REQD: ERROR_BIT + 5,
  ERR_UNKNOWN: ERROR_BIT + 6,
  ERR_SHUTDOWN: ERROR_BIT + 7,
  ERR_BLOCK_SIZE_REQD: ERROR_BIT + 8,
  ERR_TOO_BIG: ERROR_BIT + 9,
  ERR_EXT_HEADER_REQD: ERROR_BIT + 10,
} as const;

/** Two strings and some numbers fit; nothing a server can say is longer. */
export const MOST_REPLY_BYTES = 16 * 1024;

const NAMES = new Map<number, string>(Object.entries(REPLY).map(([name, number]) => [number, name]));

export function replyName(kind: number): string {
  return NAMES.get(kind) ?? `reply ${hex(kind)}`;
}

export function isErrorReply(kind: number): boolean {
  return kind >= ERROR_BIT;
}

export interface OptionReplyHead {
  readonly option: number;
  readonly kind: number;
  readonly length: number;
}

export function encodeOptionReply(option: number, kind: number, data: Uint8Array = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.alloc(OPTION_REPLY_HEAD_LENGTH + data.length);
  writeU64(dataView(bytes), 0, MAGIC);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(kind, 12);
  bytes.writeUInt32BE(data.length, 16);
  bytes.set(data, OPTION_REPLY_HEAD_LENGTH);
  return bytes;
}

/** Throws NBD_PROTOCOL for what is no reply, or longer than any can be. */
export function parseOptionReplyHead(bytes: Uint8Array): OptionReplyHead {
  const view = dataView(bytes);
  if (readU64(view, 0) !== MAGIC) throw protocolBreach('a reply to an option does not begin like one');
  const length = view.getUint32(16);
  if (length > MOST_REPLY_BYTES)
    throw protocolBreach(`a reply to an option of ${length} bytes, ${MOST_REPLY_BYTES} are allowed`, { length });
  return { option: view.getUint32(8), kind: view.getUint32(12), length };
}

/**
 * Data of REP_SERVER:
 *    0  u32  length of the name
 *    4       name, then a description for people up to the end
 */
export interface ListedExport {
  readonly name: string;
  readonly description: string;
}

export function encodeListedExport({ name, description }: ListedExport): Buffer {
  const text = encodeText(name);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  return Buffer.concat([length, text, encodeText(description)]);
}

export function parseListedExport(data: Uint8Array): ListedExport {
  const length = data.length < 4 ? Number.POSITIVE_INFINITY : dataView(data).getUint32(0);
  if (length > data.length - 4) throw protocolBreach('the name of a listed export is longer than the reply', { length: data.length });
  const name = parseText(data.subarray(4, 4 + length));
  const description = parseText(data.subarray(4 + length));
  if (name === undefined || description === undefined) throw protocolBreach('the name of a listed export is no text');
  return { name, description };
}
