// Reads what a server answers during transmission: finds the request each reply belongs to, and puts the data where they were asked for.
// It throws at the first thing that is not exactly right, and nothing may be read from the connection afterwards.

import { readU64 } from '../../plumbing/big-endian.ts';
import type { ByteFeed } from '../byte-feed.ts';
import { mostStatusBytes, parseBlockStatus } from '../protocol/block-status.ts';
import { hex, protocolBreach } from '../protocol/breach.ts';
import { DATA_HEAD_LENGTH, HOLE_LENGTH, MOST_ERROR_BYTES, parseChunkError, parseHole } from '../protocol/chunk-payload.ts';
import {
  CHUNK_DONE,
  CHUNK_LENGTH,
  CHUNK_MAGIC,
  CHUNK_TYPE,
  type ChunkHead,
  EXTENDED_CHUNK_LENGTH,
  EXTENDED_CHUNK_MAGIC,
  isErrorChunk,
  parseChunk,
  parseExtendedChunk,
  parseSimpleReply,
  SIMPLE_REPLY_LENGTH,
  SIMPLE_REPLY_MAGIC,
} from '../protocol/reply.ts';
import { COMMAND, commandName } from '../protocol/request.ts';
import { dataView } from '../protocol/view.ts';
import type { HeaderStyle } from './negotiation.ts';
import type { PendingAnswer } from './pending-answer.ts';

export interface ReplyListener {
  /** Undefined for a cookie that no request in flight has. */
  find(cookie: bigint): PendingAnswer | undefined;
  /** The reply is over; `error` is the number of the first error in it, or 0. */
  ended(cookie: bigint, error: number): void;
}

export class ReplyReader {
  readonly #feed: ByteFeed;
  readonly #style: HeaderStyle;
  readonly #listener: ReplyListener;
  readonly #bytes = Buffer.alloc(EXTENDED_CHUNK_LENGTH);
  readonly #view = dataView(this.#bytes);
  /** Replies that told an error and go on. */
  readonly #errors = new Map<bigint, number>();

  constructor(feed: ByteFeed, style: HeaderStyle, listener: ReplyListener) {
    this.#feed = feed;
    this.#style = style;
    this.#listener = listener;
    this.#next();
  }

  #next(): void {
    if (this.#style === 'extended') {
      this.#feed.expect(this.#bytes, () => this.#extended());
      return;
    }
    this.#feed.expect(this.#bytes.subarray(0, SIMPLE_REPLY_LENGTH), () => this.#compact());
  }

  #compact(): void {
    const magic = this.#view.getUint32(0);
    if (magic === SIMPLE_REPLY_MAGIC) this.#simple();
    else if (magic === CHUNK_MAGIC && this.#style === 'structured') {
      const rest = this.#bytes.subarray(SIMPLE_REPLY_LENGTH, CHUNK_LENGTH);
      this.#feed.expect(rest, () => this.#chunk(parseChunk(this.#view)));
    } else throw protocolBreach(`a reply begins with ${hex(magic)}`, { magic });
  }

  #extended(): void {
    const magic = this.#view.getUint32(0);
    if (magic !== EXTENDED_CHUNK_MAGIC) throw protocolBreach(`a reply begins with ${hex(magic)}`, { magic });
    const chunk = parseExtendedChunk(this.#view);
    const { request } = this.#pending(chunk.cookie);
    if (chunk.offset !== request.offset)
      throw protocolBreach('a reply names another offset than its request', { offset: chunk.offset, wanted: request.offset });
    this.#chunk(chunk);
  }

  #pending(cookie: bigint): PendingAnswer {
    const pending = this.#listener.find(cookie);
    if (!pending) throw protocolBreach('a reply to a request that nobody made, or that was answered already');
    return pending;
  }

  #simple(): void {
    const { error, cookie } = parseSimpleReply(this.#view);
    const pending = this.#pending(cookie);
    const { command, offset, length } = pending.request;
    if (
      this.#style === 'structured' &&
      (command === COMMAND.READ || this.#errors.has(cookie) || (command === COMMAND.BLOCK_STATUS && error === 0))
    )
      throw protocolBreach(`a simple reply to ${commandName(command)} after structured ones were agreed on`);
    if (error !== 0 || command !== COMMAND.READ || length === 0) {
      this.#end(cookie, error);
      return;
    }
    this.#feed.expect(pending.place(offset, length), () => this.#end(cookie, 0));
  }

  #end(cookie: bigint, error: number): void {
    if (error === 0) this.#pending(cookie).complete();
    this.#listener.ended(cookie, error);
    this.#next();
  }

  #chunk(chunk: ChunkHead): void {
    const pending = this.#pending(chunk.cookie);
    if (isErrorChunk(chunk.type)) {
      this.#read(chunk, MOST_ERROR_BYTES, (payload) => this.#error(chunk, payload, pending));
      return;
    }
    switch (chunk.type) {
      case CHUNK_TYPE.NONE:
        if (chunk.length !== 0 || (chunk.flags & CHUNK_DONE) === 0)
          throw protocolBreach('an empty chunk that is not the last, or not empty');
        this.#done(chunk);
        return;
      case CHUNK_TYPE.OFFSET_DATA:
        this.#data(chunk, pending);
        return;
      case CHUNK_TYPE.OFFSET_HOLE:
        this.#hole(chunk, pending);
        return;
      case this.#style === 'extended' ? CHUNK_TYPE.BLOCK_STATUS_EXT : CHUNK_TYPE.BLOCK_STATUS:
        this.#status(chunk, pending);
        return;
      default:
        throw protocolBreach(`a chunk of type ${hex(chunk.type)}`, { type: chunk.type });
    }
  }

  #hole(chunk: ChunkHead, pending: PendingAnswer): void {
    if (chunk.length !== HOLE_LENGTH) throw protocolBreach(`a hole of ${chunk.length} bytes`, { length: chunk.length });
    this.#read(chunk, HOLE_LENGTH, (payload) => {
      const { offset, length } = parseHole(payload);
      pending.place(offset, length).fill(0);
      this.#done(chunk);
    });
  }

  #status(chunk: ChunkHead, pending: PendingAnswer): void {
    const { command } = pending.request;
    if (command !== COMMAND.BLOCK_STATUS) throw protocolBreach(`a block status in answer to ${commandName(command)}`);
    const extended = this.#style === 'extended';
    this.#read(chunk, mostStatusBytes(extended), (payload) => {
      pending.status(parseBlockStatus(payload, extended));
      this.#done(chunk);
    });
  }

  #data(chunk: ChunkHead, pending: PendingAnswer): void {
    const length = chunk.length - DATA_HEAD_LENGTH;
    if (!(length >= 1 && length <= pending.request.length))
      throw protocolBreach(`data of ${length} bytes, ${pending.request.length} were asked for`, { length, wanted: pending.request.length });
    const head = this.#bytes.subarray(0, DATA_HEAD_LENGTH);
    this.#feed.expect(head, () => {
      this.#feed.expect(pending.place(readU64(this.#view, 0), length), () => this.#done(chunk));
    });
  }

  /** The payload as a whole, where it is no longer than it can be. */
  #read({ length, type }: ChunkHead, most: number, then: (payload: Buffer) => void): void {
    if (!(length <= most)) throw protocolBreach(`a chunk of type ${hex(type)} with ${length} bytes, ${most} are allowed`, { length, most });
    const payload = Buffer.alloc(length);
    this.#feed.expect(payload, () => then(payload));
  }

  #error(chunk: ChunkHead, payload: Buffer, { request }: PendingAnswer): void {
    const known = chunk.type === CHUNK_TYPE.ERROR ? 'plain' : chunk.type === CHUNK_TYPE.ERROR_OFFSET ? 'with offset' : 'unknown';
    const { error, offset } = parseChunkError(payload, known);
    if (offset !== undefined && !(offset >= request.offset && offset < request.offset + Math.max(1, request.length)))
      throw protocolBreach('an error outside of what was asked for', { offset, wanted: request.offset, wanted_length: request.length });
    if (!this.#errors.has(chunk.cookie)) this.#errors.set(chunk.cookie, error);
    this.#done(chunk);
  }

  #done(chunk: ChunkHead): void {
    if ((chunk.flags & CHUNK_DONE) === 0) {
      this.#next();
      return;
    }
    const error = this.#errors.get(chunk.cookie) ?? 0;
    this.#errors.delete(chunk.cookie);
    this.#end(chunk.cookie, error);
  }
}
