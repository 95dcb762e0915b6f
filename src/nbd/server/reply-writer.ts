// Replies in the form that was agreed on, made of heads and payloads. Whoever answers a request need not know which form that is.

import { type BlockStatus, encodeBlockStatus } from '../protocol/block-status.ts';
import { encodeChunkError } from '../protocol/chunk-payload.ts';
import {
  CHUNK_DONE,
  CHUNK_LENGTH,
  CHUNK_TYPE,
  EXTENDED_CHUNK_LENGTH,
  SIMPLE_REPLY_LENGTH,
  writeChunk,
  writeSimpleReply,
} from '../protocol/reply.ts';
import { COMMAND, type Request } from '../protocol/request.ts';
import type { Agreement } from './client-negotiation.ts';

export type Headers = Agreement['headers'];

/** Bytes in front of the payload of a reply. */
export function headLength(headers: Headers): number {
  if (headers === 'simple') return SIMPLE_REPLY_LENGTH;
  return headers === 'structured' ? CHUNK_LENGTH : EXTENDED_CHUNK_LENGTH;
}

/** Writes the head of a chunk with `length` bytes of payload at the beginning of `bytes`. */
export function writeHead(
  bytes: Uint8Array,
  request: Request,
  headers: Headers,
  chunk: { type: number; length: number; last: boolean },
): void {
  const { cookie, offset } = request;
  const { type, length, last } = chunk;
  if (headers === 'simple') writeSimpleReply(bytes, { error: 0, cookie });
  else writeChunk(bytes, { flags: last ? CHUNK_DONE : 0, type, cookie, length, ...(headers === 'extended' && { offset }) });
}

/** The whole reply to a request that was carried out and has no data. */
export function encodeDone(request: Request, headers: Headers): Buffer {
  // Allowed also after structured replies were agreed on, for all but reads; and every client understands it.
  if (headers === 'structured' && request.command !== COMMAND.READ) return encodeSimple(request, 0);
  const bytes = Buffer.alloc(headLength(headers));
  writeHead(bytes, request, headers, { type: CHUNK_TYPE.NONE, length: 0, last: true });
  return bytes;
}

/** The end of a reply to a request that failed. No word of why: what went wrong here is not the client's business. */
export function encodeFailed(request: Request, headers: Headers, error: number): Buffer {
  if (headers === 'simple' || (headers === 'structured' && request.command !== COMMAND.READ && request.command !== COMMAND.BLOCK_STATUS))
    return encodeSimple(request, error);
  return encodeChunk(request, headers, encodeChunkError({ error, message: '' }), { type: CHUNK_TYPE.ERROR, last: true });
}

export function encodeStatus(request: Request, headers: Headers, status: BlockStatus, last: boolean): Buffer {
  const extended = headers === 'extended';
  const type = extended ? CHUNK_TYPE.BLOCK_STATUS_EXT : CHUNK_TYPE.BLOCK_STATUS;
  return encodeChunk(request, headers, encodeBlockStatus(status, extended), { type, last });
}

function encodeSimple({ cookie }: Request, error: number): Buffer {
  const bytes = Buffer.alloc(SIMPLE_REPLY_LENGTH);
  writeSimpleReply(bytes, { error, cookie });
  return bytes;
}

function encodeChunk(request: Request, headers: Headers, payload: Buffer, { type, last }: { type: number; last: boolean }): Buffer {
  const bytes = Buffer.alloc(headLength(headers) + payload.length);
  writeHead(bytes, request, headers, { type, length: payload.length, last });
  payload.copy(bytes, headLength(headers));
  return bytes;
}
