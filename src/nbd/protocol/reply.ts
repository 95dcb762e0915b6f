// The heads of what a server answers during transmission: the simple reply, and the chunk in its structured and its extended form.

import { readU64, writeU64 } from '../../plumbing/big-endian.ts';
import { dataView } from './view.ts';

/**
 * Simple, 16 bytes:      Structured, 20 bytes:      Extended, 32 bytes:
 *   0  u32  0x67446698     0  u32  0x668e33ef         0  u32  0x6e8a278c
 *   4  u32  error          4  u16  flags              4  u16  flags
 *   8  u64  cookie         6  u16  type               6  u16  type
 *  16       what a READ    8  u64  cookie             8  u64  cookie
 *           reads         16  u32  length of payload 16  u64  offset of the request
 *                         20       payload           24  u64  length of payload
 *                                                    32       payload
 */
export const SIMPLE_REPLY_LENGTH = 16;
export const CHUNK_LENGTH = 20;
export const EXTENDED_CHUNK_LENGTH = 32;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const CHUNK_MAGIC = 0x668e33ef;
export const EXTENDED_CHUNK_MAGIC = 0x6e8a278c;

/** The last chunk of a reply. */
export const CHUNK_DONE = 1;

const ERROR_BIT = 0x8000;
export const CHUNK_TYPE = {
  NONE: 0,
  OFFSET_DATA: 1,
  OFFSET_HOLE: 2,
  BLOCK_STATUS: 5,
  BLOCK_STATUS_EXT: 6,
  ERROR: ERROR_BIT + 1,
  ERROR_OFFSET: ERROR_BIT + 2,
} as const;

export function isErrorChunk(type: number): boolean {
  return type >= ERROR_BIT;
}

export interface SimpleReply {
  readonly error: number;
  readonly cookie: bigint;
}

/** Its magic number is not looked at: the reader needs it first, to know how long the head is. */
export function parseSimpleReply(view: DataView): SimpleReply {
  return { error: view.getUint32(4), cookie: view.getBigUint64(8) };
}

/** Writes the head at the beginning of `bytes`, where the payload has its place behind it. */
export function writeSimpleReply(bytes: Uint8Array, { error, cookie }: SimpleReply): void {
  const view = dataView(bytes);
  view.setUint32(0, SIMPLE_REPLY_MAGIC);
  view.setUint32(4, error);
  view.setBigUint64(8, cookie);
}

export interface ChunkHead {
  readonly flags: number;
  readonly type: number;
  readonly cookie: bigint;
  /** Of the request; only in the extended form. */
  readonly offset?: number;
  /** Of the payload, in bytes; Infinity where it is 2^53 or more. */
  readonly length: number;
}

export function parseChunk(view: DataView): ChunkHead {
  return { flags: view.getUint16(4), type: view.getUint16(6), cookie: view.getBigUint64(8), length: view.getUint32(16) };
}

export function parseExtendedChunk(view: DataView): ChunkHead {
  return {
    flags: view.getUint16(4),
    type: view.getUint16(6),
    cookie: view.getBigUint64(8),
    offset: readU64(view, 16),
    length: readU64(view, 24),
  };
}

/** Writes the head at the beginning of `bytes`: extended where it names an offset. */
export function writeChunk(bytes: Uint8Array, chunk: ChunkHead): void {
  const view = dataView(bytes);
  const extended = chunk.offset !== undefined;
  view.setUint32(0, extended ? EXTENDED_CHUNK_MAGIC : CHUNK_MAGIC);
  view.setUint16(4, chunk.flags);
  view.setUint16(6, chunk.type);
  view.setBigUint64(8, chunk.cookie);
  if (chunk.offset === undefined) {
    view.setUint32(16, chunk.length);
    return;
  }
  writeU64(view, 16, chunk.offset);
  writeU64(view, 24, chunk.length);
}
