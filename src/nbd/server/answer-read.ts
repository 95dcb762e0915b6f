// Answers a READ: the bytes go from the disk into a buffer that has room for the head in front, and from there to the socket.
// Bytes that could not be read are never made up: the client is told, or the connection ends.

import type { DiskReader } from '../../disk/disk-reader.ts';
import { writeU64 } from '../../plumbing/big-endian.ts';
import { mapAhead } from '../../plumbing/map-ahead.ts';
import { DATA_HEAD_LENGTH } from '../protocol/chunk-payload.ts';
import { errorNumberOf } from '../protocol/error-number.ts';
import { CHUNK_TYPE } from '../protocol/reply.ts';
import { COMMAND_FLAG, type Request } from '../protocol/request.ts';
import { dataView } from '../protocol/view.ts';
import type { BufferPool } from './buffer-pool.ts';
import { encodeDone, encodeFailed, type Headers, headLength, writeHead } from './reply-writer.ts';
import type { SendQueue } from './send-queue.ts';

/** Longer reads go out piece by piece, so that memory does not follow what a client asks for. */
export const PIECE_BYTES = 1 << 20;
/** Pieces of one request that are read at a time. */
const PIECES_AHEAD = 2;

export interface ReadService {
  readonly disk: DiskReader;
  readonly headers: Headers;
  readonly queue: SendQueue;
  readonly pool: BufferPool;
  /** Hears why the disk could not be read. */
  readonly onProblem: (error: unknown) => void;
}

/** Rejects when the client is gone, or cannot be told of an error any more: the connection must end then. */
export async function answerRead(service: ReadService, request: Request): Promise<void> {
  const { headers, queue } = service;
  const { length, flags } = request;
  if (length === 0) return queue.send(encodeDone(request, headers));
  if (length <= PIECE_BYTES) return answerWhole(service, request);
  if (headers === 'simple') return answerInParts(service, request);
  return (flags & COMMAND_FLAG.DF) === 0 ? answerInChunks(service, request) : answerInParts(service, request);
}

/** Where the data begin in a message: behind the head and, but for simple replies, their offset. */
function dataStart(headers: Headers): number {
  return headLength(headers) + (headers === 'simple' ? 0 : DATA_HEAD_LENGTH);
}

interface Range {
  readonly offset: number;
  readonly length: number;
  readonly last: boolean;
}

interface ReadBytes {
  /** The pool's. */
  readonly buffer: Buffer;
  readonly message: Buffer;
}

/** These bytes of the disk behind `start` bytes of room. The buffer of a read that failed is given up: something may still write into it. */
async function readBehind({ pool, disk }: ReadService, start: number, { offset, length }: Range): Promise<ReadBytes> {
  const buffer = pool.take(start + length);
  const message = buffer.subarray(0, start + length);
  await disk.read(message.subarray(start), offset);
  return { buffer, message };
}

/** A message with these bytes of the disk as its data. */
async function readMessage(service: ReadService, request: Request, range: Range): Promise<ReadBytes> {
  const read = await readBehind(service, dataStart(service.headers), range);
  writeDataHead(read.message, request, service.headers, range);
  return read;
}

function writeDataHead(message: Buffer, request: Request, headers: Headers, { offset, length, last }: Range): void {
  writeHead(message, request, headers, { type: CHUNK_TYPE.OFFSET_DATA, length: DATA_HEAD_LENGTH + length, last });
  if (headers !== 'simple') writeU64(dataView(message), headLength(headers), offset);
}

async function answerWhole(service: ReadService, request: Request): Promise<void> {
  const { offset, length } = request;
  let read: ReadBytes;
  try {
    read = await readMessage(service, request, { offset, length, last: true });
  } catch (error) {
    service.onProblem(error);
    return service.queue.send(encodeFailed(request, service.headers, errorNumberOf(error)));
  }
  await service.queue.send(read.message);
  service.pool.give(read.buffer);
}

/** Chunks in the order of the disk, the last of which ends the reply: nothing can fail behind it. */
async function answerInChunks(service: ReadService, request: Request): Promise<void> {
  const end = request.offset + request.length;
  const ranges = [...cut(request.offset, end)];
  let failed: { readonly error: unknown } | undefined;
  const reads = mapAhead(ranges, PIECES_AHEAD, async (range) => {
    if (failed) return undefined;
    try {
      return await readMessage(service, request, range);
    } catch (error) {
      failed ??= { error };
      return undefined;
    }
  });
  for await (const read of reads) {
    if (!read) continue;
    try {
      // Data in front of an error are of no use to anybody.
      if (!failed) await service.queue.send(read.message);
      service.pool.give(read.buffer);
    } catch (error) {
      // The client is gone; what was begun of the disk still comes to its end.
      failed = { error };
    }
  }
  if (!failed) return;
  service.onProblem(failed.error);
  await service.queue.send(encodeFailed(request, service.headers, errorNumberOf(failed.error)));
}

function* cut(offset: number, end: number): Generator<Range> {
  for (let at = offset; at < end; at += PIECE_BYTES) {
    const length = Math.min(PIECE_BYTES, end - at);
    yield { offset: at, length, last: at + length === end };
  }
}

/** One message that is longer than what is held in memory: its head says all is well before all is read. */
async function answerInParts(service: ReadService, request: Request): Promise<void> {
  const { queue, headers, pool } = service;
  const { offset, length } = request;
  await queue.sendParts(async (write) => {
    let failed: { readonly error: unknown } | undefined;
    for (const part of cut(offset, offset + length)) {
      const start = part.offset === offset ? dataStart(headers) : 0;
      let read: ReadBytes | undefined;
      try {
        if (!failed) read = await readBehind(service, start, part);
      } catch (error) {
        service.onProblem(error);
        // Behind a simple head without an error there is no other way to say it than to end.
        if (headers === 'simple') throw error;
        failed = { error };
      }
      // The error is told in a chunk behind; until then "it MUST use padding bytes which SHOULD be zero".
      const message = read?.message ?? Buffer.alloc(start + part.length);
      if (start > 0) writeDataHead(message, request, headers, { offset, length, last: false });
      await write(message);
      if (read) pool.give(read.buffer);
    }
    if (headers === 'simple') return;
    await write(failed ? encodeFailed(request, headers, errorNumberOf(failed.error)) : encodeDone(request, headers));
  });
}
