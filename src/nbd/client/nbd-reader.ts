// An export as a disk to read: its extents from base:allocation, its dirty bitmaps as ranges, its bytes by many requests at a time.
// Nothing is ever taken for zeros that the server did not say is zeros.

import type { DiskReader } from '../../disk/disk-reader.ts';
import type { ByteRange, Extent } from '../../disk/extent.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { settle } from '../../plumbing/settle.ts';
import { ALLOCATION_FLAG, BASE_ALLOCATION } from '../protocol/meta-context.ts';
import { type ConnectOptions, type NbdTarget, resolveTarget } from './connect-nbd.ts';
import { ConnectionPool } from './connection-pool.ts';
import { type ContextRange, contextRanges } from './context-ranges.ts';
import { NbdReplyError } from './nbd-connection.ts';
import type { ExportFacts } from './negotiation.ts';
import { cutToPieces, type Piece } from './request-pieces.ts';

export interface NbdReaderOptions extends ConnectOptions {
  /** Metadata contexts to have, besides base:allocation: `qemu:dirty-bitmap:NAME`, say. What the server does not have is missing in `contexts`. */
  readonly contexts?: readonly string[];
  /** At most, where the server allows several; 4 if left out. */
  readonly connections?: number;
  /** Milliseconds in which a lost connection may come back; 60 000 if left out. Reads are sent again then: they change nothing. */
  readonly reconnectWithin?: number;
  /** Ends it when it fires, as `close` does: also reads that are under way. */
  readonly signal?: AbortSignal;
}

export interface NbdReader extends DiskReader {
  readonly facts: ExportFacts;
  /** Names of the metadata contexts that the server has, of those asked for. */
  readonly contexts: readonly string[];
  /** What the server says of `range` in a context, in ascending order, without gaps. Throws NOT_SUPPORTED for one it does not have. */
  ranges(context: string, range: ByteRange): AsyncIterable<ContextRange>;
}

const CONNECTIONS = 4;
const RECONNECT_WITHIN = 60_000;

/** Throws CONFIG_INVALID, CONNECTION_FAILED, EXPORT_NOT_FOUND, EXPORT_REFUSED, NBD_PROTOCOL. */
export async function openNbdReader(address: string, options: NbdReaderOptions = {}): Promise<NbdReader> {
  const target = await resolveTarget(address, options);
  const contexts = [...new Set([BASE_ALLOCATION, ...(options.contexts ?? [])])];
  const { connections = CONNECTIONS, reconnectWithin = RECONNECT_WITHIN, signal } = options;
  return new ExportReader(target, await ConnectionPool.open(target, { contexts, connections, reconnectWithin, signal }));
}

class ExportReader implements NbdReader {
  readonly name: string;
  /** All requests of a read have ended when it has. */
  readonly intoShared = true;
  readonly size: number;
  readonly facts: ExportFacts;
  readonly contexts: readonly string[];
  readonly #pool: ConnectionPool;

  constructor(target: NbdTarget, pool: ConnectionPool) {
    this.name = target.shown;
    this.size = pool.facts.size;
    this.facts = pool.facts;
    this.contexts = pool.contexts;
    this.#pool = pool;
  }

  async *extents(range: ByteRange): AsyncGenerator<Extent> {
    if (!this.contexts.includes(BASE_ALLOCATION)) {
      if (range.length > 0) yield { ...range, kind: 'data' };
      return;
    }
    for await (const { offset, length, flags } of this.ranges(BASE_ALLOCATION, range)) {
      // A hole that is not said to read as zeros may hold anything: it is read.
      yield { offset, length, kind: (flags & ALLOCATION_FLAG.ZERO) === 0 ? 'data' : 'zero' };
    }
  }

  async *ranges(context: string, range: ByteRange): AsyncGenerator<ContextRange> {
    if (!this.contexts.includes(context)) throw noContext(this.name, context);
    try {
      yield* contextRanges(this.#pool, context, range);
    } catch (error) {
      throw this.#explain(error, range.offset, range.length);
    }
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    if (!(offset >= 0 && offset + buffer.length <= this.size)) throw outside(this.name, offset, buffer.length, this.size);
    const pieces = [...cutToPieces({ offset, length: buffer.length }, this.facts.blockSize)];
    try {
      await settle(pieces.map((piece) => this.#readPiece(piece, buffer, offset)));
    } catch (error) {
      throw this.#explain(error, offset, buffer.length);
    }
  }

  async #readPiece(piece: Piece, buffer: Uint8Array, offset: number): Promise<void> {
    const at = piece.offset + piece.from - offset;
    const part = buffer.subarray(at, at + piece.to - piece.from);
    const whole = part.length === piece.length ? part : Buffer.allocUnsafeSlow(piece.length);
    await this.#pool.run((connection) => connection.read(whole, piece.offset));
    if (whole !== part) part.set(whole.subarray(piece.from, piece.to));
  }

  async close(): Promise<void> {
    this.#pool.close();
  }

  #explain(error: unknown, offset: number, length: number): unknown {
    if (!(error instanceof NbdReplyError)) return error;
    return new ChainkeepError('SOURCE_UNREADABLE', `${this.name} cannot be read at ${offset}: ${error.message}`, {
      advice: 'check the disk behind the export, on the side of the server',
      context: { path: this.name, offset, length, nbd_error: error.error },
      cause: error,
    });
  }
}

function outside(name: string, offset: number, length: number, size: number): ChainkeepError {
  return new ChainkeepError('INTERNAL', `internal error: ${length} bytes at ${offset} of ${name}, which has ${size}`);
}

function noContext(name: string, context: string): ChainkeepError {
  return new ChainkeepError('NOT_SUPPORTED', `${name} has no metadata context ${context}`, {
    advice: 'ask for it when the export is opened; chainkeep nbd info shows which there are',
    context: { path: name, context },
  });
}
