// Cuts a range into requests that the server takes: not longer than it allows, on the grid it demands.

import type { ByteRange } from '../../disk/extent.ts';
import type { BlockSize } from '../protocol/export-info.ts';

/** Long enough that a request costs little beside its bytes, short enough that several connections share a read. */
const PIECE_BYTES = 1 << 20;

export interface Piece {
  /** What is asked for. */
  readonly offset: number;
  readonly length: number;
  /** The part of it that is wanted, from the beginning of the piece. */
  readonly from: number;
  readonly to: number;
}

/** The longest request with data, a multiple of the smallest block. */
export function pieceBytes({ minimum, maximum }: BlockSize): number {
  const most = Math.min(PIECE_BYTES, maximum);
  return most - (most % minimum);
}

export function* cutToPieces({ offset, length }: ByteRange, blockSize: BlockSize): Generator<Piece> {
  const { minimum } = blockSize;
  const step = pieceBytes(blockSize);
  const end = offset + length;
  for (let at = offset - (offset % minimum); at < end; at += step) {
    const stop = Math.min(at + step, Math.ceil(end / minimum) * minimum);
    yield { offset: at, length: stop - at, from: Math.max(0, offset - at), to: Math.min(stop, end) - at };
  }
}
