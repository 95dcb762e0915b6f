// An export as a disk to write: data, zeros and trims, many requests at a time, durable after `finish`.
// A connection that is lost ends it: what the server had not made durable may be gone, and only a complete new run can know.

import type { DiskWriter } from '../../disk/disk-writer.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { settle } from '../../plumbing/settle.ts';
import { COMMAND } from '../protocol/request.ts';
import { hasFlag } from '../protocol/transmission-flags.ts';
import { type ConnectOptions, type NbdTarget, resolveTarget } from './connect-nbd.ts';
import { ConnectionPool } from './connection-pool.ts';
import { NbdReplyError } from './nbd-connection.ts';
import type { ExportFacts } from './negotiation.ts';
import { cutToPieces, type Piece, pieceBytes } from './request-pieces.ts';

export interface NbdWriterOptions extends ConnectOptions {
  /** Bytes that will be written; an export that is smaller is refused. */
  readonly size: number;
  /** Is the export known to read as zeros? Then zeros are not written. */
  readonly startsZero?: boolean;
  /** At most, where the server allows several; 4 if left out. */
  readonly connections?: number;
  /** Ends it when it fires, as `abort` does: also writes that are under way. */
  readonly signal?: AbortSignal;
}

export interface NbdWriter extends DiskWriter {
  readonly facts: ExportFacts;
  /** Says that nobody needs the range any more: it may then read as anything. Does nothing where the server knows no trims. */
  trim(offset: number, length: number): Promise<void>;
  /** All that was written before is durable, where the server can do that at all. */
  flush(): Promise<void>;
}

/** Throws what `openNbdReader` throws, EXPORT_REFUSED for a read-only export, and TARGET_TOO_SMALL. */
export async function openNbdWriter(address: string, options: NbdWriterOptions): Promise<NbdWriter> {
  const target = await resolveTarget(address, options);
  const { connections = 4, size, startsZero = false, signal } = options;
  const pool = await ConnectionPool.open(target, { contexts: [], connections, reconnectWithin: 0, signal });
  try {
    if (hasFlag(pool.facts.flags, 'READ_ONLY')) throw readOnly(target.shown);
    if (pool.facts.size < size) throw tooSmall(target.shown, size, pool.facts.size);
    return new ExportWriter(target, pool, startsZero);
  } catch (error) {
    pool.close();
    throw error;
  }
}

const ZEROS = Buffer.alloc(1 << 20);
/** Compact requests have 32 bits, and some servers take fewer. */
const MOST_ZERO_BYTES = 2 ** 30;

class ExportWriter implements NbdWriter {
  readonly name: string;
  readonly startsZero: boolean;
  readonly facts: ExportFacts;
  readonly #pool: ConnectionPool;
  /** Bytes of one WRITE_ZEROES; 0 where the server does not know it. */
  #zeroBytes: number;
  /** Two writes that each change a part of one block must not read it at the same time. */
  #edges: Promise<void> = Promise.resolve();

  constructor(target: NbdTarget, pool: ConnectionPool, startsZero: boolean) {
    this.name = target.shown;
    this.startsZero = startsZero;
    this.facts = pool.facts;
    this.#pool = pool;
    this.#zeroBytes = hasFlag(pool.facts.flags, 'SEND_WRITE_ZEROES') ? MOST_ZERO_BYTES : 0;
  }

  async write(buffer: Uint8Array, offset: number): Promise<void> {
    const pieces = [...cutToPieces({ offset, length: buffer.length }, this.facts.blockSize)];
    await this.#all(pieces.map((piece) => this.#writePiece(piece, buffer, offset)));
  }

  async zero(offset: number, length: number): Promise<void> {
    const { minimum } = this.facts.blockSize;
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const aligned = at % minimum === 0 ? Math.min(end - at, Math.max(this.#zeroBytes, 0)) : 0;
      const step = aligned - (aligned % minimum);
      if (step > 0 && (await this.#zeroStep(at, step))) at += step;
      else if (step === 0) at += await this.#writeZeros(at, end);
    }
  }

  /** False where the server does not take it: the next try is shorter, the last one writes zeros as data. */
  async #zeroStep(offset: number, length: number): Promise<boolean> {
    try {
      await this.#pool.run((connection) => connection.change(COMMAND.WRITE_ZEROES, offset, length));
      return true;
    } catch (error) {
      if (!(error instanceof NbdReplyError) || !TRY_OTHERWISE.has(error.error)) throw this.explain(error);
      const shorter = pieceBytes(this.facts.blockSize);
      this.#zeroBytes = length > shorter ? shorter : 0;
      return false;
    }
  }

  /** Up to the next border of a block, or as much as one request takes. */
  async #writeZeros(at: number, end: number): Promise<number> {
    const { minimum } = this.facts.blockSize;
    const border = at % minimum === 0 ? end : at - (at % minimum) + minimum;
    const length = Math.min(end, border, at + ZEROS.length) - at;
    await this.write(ZEROS.subarray(0, length), at);
    return length;
  }

  async trim(offset: number, length: number): Promise<void> {
    if (!hasFlag(this.facts.flags, 'SEND_TRIM')) return;
    const { minimum } = this.facts.blockSize;
    const end = offset + length - ((offset + length) % minimum);
    for (let at = Math.ceil(offset / minimum) * minimum; at < end; at += MOST_ZERO_BYTES) {
      const step = Math.min(MOST_ZERO_BYTES, end - at);
      await this.#all([this.#pool.run((connection) => connection.change(COMMAND.TRIM, at, step))]);
    }
  }

  async flush(): Promise<void> {
    if (!hasFlag(this.facts.flags, 'SEND_FLUSH')) return;
    await this.#all([this.#pool.run((connection) => connection.flush())]);
  }

  explain(error: unknown): unknown {
    if (!(error instanceof NbdReplyError)) return error;
    const full = error.error === 'ENOSPC';
    return new ChainkeepError(full ? 'INSUFFICIENT_STORAGE' : 'TARGET_FAILED', `${this.name} cannot be written: ${error.message}`, {
      advice: full
        ? 'make room on the side of the server; what is written so far is no complete disk'
        : 'look at the log of the server; what is written so far is no complete disk',
      context: { target: this.name, nbd_error: error.error },
      cause: error,
    });
  }

  async finish(): Promise<void> {
    await this.flush();
    this.#pool.checkSound();
    this.#pool.close();
  }

  async abort(): Promise<void> {
    this.#pool.close();
  }

  async #writePiece(piece: Piece, buffer: Uint8Array, offset: number): Promise<void> {
    const at = piece.offset + piece.from - offset;
    const part = buffer.subarray(at, at + piece.to - piece.from);
    if (part.length === piece.length) {
      await this.#pool.run((connection) => connection.write(part, piece.offset, 0));
      return;
    }
    const turn = this.#edges.then(() => this.#mergePiece(piece, part));
    this.#edges = turn.catch(() => undefined);
    await turn;
  }

  /** A part of a block: what else is in it must stay. */
  async #mergePiece(piece: Piece, part: Uint8Array): Promise<void> {
    const whole = Buffer.alloc(piece.length);
    await this.#pool.run((connection) => connection.read(whole, piece.offset));
    whole.set(part, piece.from);
    await this.#pool.run((connection) => connection.write(whole, piece.offset, 0));
  }

  /** Throws the first error once all have ended: none may still be writing when the caller gives up. */
  async #all(work: readonly Promise<void>[]): Promise<void> {
    try {
      await settle(work);
    } catch (error) {
      throw this.explain(error);
    }
  }
}

/** What a server says that cannot zero in this way, or not so much at once. */
const TRY_OTHERWISE: ReadonlySet<string> = new Set(['ENOTSUP', 'EINVAL', 'EOVERFLOW', 'ENOMEM']);

function readOnly(name: string): ChainkeepError {
  return new ChainkeepError('EXPORT_REFUSED', `${name} is read-only`, {
    advice: 'open it for writing on the server',
    context: { target: name },
  });
}

function tooSmall(name: string, size: number, available: number): ChainkeepError {
  return new ChainkeepError('TARGET_TOO_SMALL', `${name} has ${available} bytes, the disk has ${size}`, {
    advice: 'choose an export that is at least as large as the disk',
    context: { target: name, required_bytes: size, available_bytes: available },
  });
}
