// What lies in a chunk: where its data belong, how long a hole is, which error it tells.

import { readU64, writeU64 } from '../../plumbing/big-endian.ts';
import { protocolBreach } from './breach.ts';
import { encodeText, MOST_TEXT_BYTES, parseText } from './text.ts';
import { dataView } from './view.ts';

/** OFFSET_DATA: u64 offset in the export, then the bytes. */
export const DATA_HEAD_LENGTH = 8;

/** OFFSET_HOLE: u64 offset in the export, u32 length of the hole, which reads as zeros. */
export const HOLE_LENGTH = 12;

export interface Hole {
  readonly offset: number;
  readonly length: number;
}

export function writeHole(bytes: Uint8Array, { offset, length }: Hole): void {
  const view = dataView(bytes);
  writeU64(view, 0, offset);
  view.setUint32(8, length);
}

export function parseHole(payload: Uint8Array): Hole {
  const view = dataView(payload);
  return { offset: readU64(view, 0), length: view.getUint32(8) };
}

/**
 * ERROR and ERROR_OFFSET, and so far all errors there will be:
 *    0  u32  error number, not 0
 *    4  u16  length of the message
 *    6       message, for people
 *    6 + n   u64 offset in the export, only in ERROR_OFFSET
 */
export const ERROR_HEAD_LENGTH = 6;
export const ERROR_OFFSET_LENGTH = 8;
export const MOST_ERROR_BYTES = ERROR_HEAD_LENGTH + MOST_TEXT_BYTES + ERROR_OFFSET_LENGTH;

export interface ChunkError {
  readonly error: number;
  readonly message: string;
  readonly offset?: number;
}

export function encodeChunkError({ error, message, offset }: ChunkError): Buffer {
  const text = encodeText(message);
  const bytes = Buffer.alloc(ERROR_HEAD_LENGTH + text.length + (offset === undefined ? 0 : ERROR_OFFSET_LENGTH));
  bytes.writeUInt32BE(error);
  bytes.writeUInt16BE(text.length, 4);
  text.copy(bytes, ERROR_HEAD_LENGTH);
  if (offset !== undefined) writeU64(dataView(bytes), ERROR_HEAD_LENGTH + text.length, offset);
  return bytes;
}

/** Throws NBD_PROTOCOL where the parts do not add up. `kind`: which parts there must be; of an unknown error only the first two are read. */
export function parseChunkError(payload: Uint8Array, kind: 'plain' | 'with offset' | 'unknown'): ChunkError {
  const view = dataView(payload);
  if (payload.length < ERROR_HEAD_LENGTH) throw protocolBreach(`an error of ${payload.length} bytes`, { length: payload.length });
  const error = view.getUint32(0);
  const length = view.getUint16(4);
  const expected = ERROR_HEAD_LENGTH + length + (kind === 'with offset' ? ERROR_OFFSET_LENGTH : 0);
  if (kind === 'unknown' ? payload.length < expected : payload.length !== expected)
    throw protocolBreach(`an error of ${payload.length} bytes with a message of ${length}`, { length: payload.length, expected });
  if (error === 0) throw protocolBreach('an error with the number 0');
  const message = parseText(payload.subarray(ERROR_HEAD_LENGTH, ERROR_HEAD_LENGTH + length)) ?? '';
  return { error, message, ...(kind === 'with offset' && { offset: readU64(view, ERROR_HEAD_LENGTH + length) }) };
}
