// A request of the client during transmission, in its compact and its extended form.
// It must not judge a request; only a head that is none is an error.

import { readU64, writeU64 } from '../../plumbing/big-endian.ts';
import { hex, protocolBreach } from './breach.ts';
import { dataView } from './view.ts';

/**
 * Compact:                        Extended, once NBD_OPT_EXTENDED_HEADERS was agreed on:
 *    0  u32  0x25609513              0  u32  0x21e41c71
 *    4  u16  flags                   4  u16  flags
 *    6  u16  command                 6  u16  command
 *    8  u64  cookie                  8  u64  cookie
 *   16  u64  offset                 16  u64  offset
 *   24  u32  length                 24  u64  length
 *   28       what a WRITE writes    32       payload, where PAYLOAD_LEN is set
 */
export const REQUEST_LENGTH = 28;
export const EXTENDED_REQUEST_LENGTH = 32;
const MAGIC = 0x25609513;
const EXTENDED_MAGIC = 0x21e41c71;

export const COMMAND = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
} as const;

export const COMMAND_FLAG = {
  FUA: 1 << 0,
  NO_HOLE: 1 << 1,
  DF: 1 << 2,
  REQ_ONE: 1 << 3,
  FAST_ZERO: 1 << 4,
  PAYLOAD_LEN: 1 << 5,
} as const;

const NAMES = new Map<number, string>(Object.entries(COMMAND).map(([name, number]) => [number, name]));

export function commandName(command: number): string {
  return NAMES.get(command) ?? `command ${command}`;
}

export interface Request {
  readonly flags: number;
  readonly command: number;
  /** Opaque to the server, which repeats it in each reply. */
  readonly cookie: bigint;
  /** Bytes; Infinity where it is 2^53 or more, so that every check of a range refuses it. */
  readonly offset: number;
  readonly length: number;
}

/** The head; what follows it is sent behind it. Throws RangeError for a length that the compact form cannot tell. */
export function encodeRequest(request: Request, extended: boolean): Buffer {
  if (!extended && request.length > 0xffff_ffff) throw new RangeError(`a compact request of ${request.length} bytes`);
  const bytes = Buffer.allocUnsafe(extended ? EXTENDED_REQUEST_LENGTH : REQUEST_LENGTH);
  const view = dataView(bytes);
  view.setUint32(0, extended ? EXTENDED_MAGIC : MAGIC);
  view.setUint16(4, request.flags);
  view.setUint16(6, request.command);
  view.setBigUint64(8, request.cookie);
  writeU64(view, 16, request.offset);
  if (extended) writeU64(view, 24, request.length);
  else view.setUint32(24, request.length);
  return bytes;
}

/** Throws NBD_PROTOCOL where the magic number is another: nothing behind it can be understood. */
export function parseRequest(view: DataView, extended: boolean): Request {
  const magic = view.getUint32(0);
  if (magic !== (extended ? EXTENDED_MAGIC : MAGIC)) throw protocolBreach(`a request begins with ${hex(magic)}`, { magic });
  return {
    flags: view.getUint16(4),
    command: view.getUint16(6),
    cookie: view.getBigUint64(8),
    offset: readU64(view, 16),
    length: extended ? readU64(view, 24) : view.getUint32(24),
  };
}
