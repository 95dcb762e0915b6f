// Raw deflate as QCOW2 uses it, through node:zlib.
// It must never let a stream decide how much memory is used: the output is one cluster.

import { constants, deflateRawSync, inflateRawSync } from 'node:zlib';
import { systemCode } from '../plumbing/errors.ts';

/** qemu writes with a window of 4 KiB, so that every decoder of that size can read; it reads with 32 KiB. */
const WINDOW_BITS = 12;
/** Room behind the cluster, so that a stream of exactly one cluster ends in one step. */
const ROOM = 64;
/** One byte of input ends at most one match that was begun before it and holds four whole ones, of 258 bytes each. */
const MAX_OUTPUT_OF_ONE_BYTE = 5 * 258;

export type InflateResult = 'done' | 'short' | 'damaged';

/**
 * Fills `output` from the stream at the start of `stored`; bytes behind the end of the stream are ignored.
 * A stream that goes on behind `output` is cut there, as qemu does.
 */
export function inflateInto(stored: Uint8Array, output: Uint8Array): InflateResult {
  try {
    const bytes = inflateRawSync(stored, { maxOutputLength: output.length, chunkSize: output.length + ROOM });
    if (bytes.length < output.length) return 'short';
    output.set(bytes);
    return 'done';
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ERR_BUFFER_TOO_LARGE') return inflateLonger(stored, output);
    if (code === 'Z_BUF_ERROR') return 'short';
    if (code === 'Z_DATA_ERROR' || code === 'Z_NEED_DICT') return 'damaged';
    throw error;
  }
}

/**
 * The stream is known to give more than `output` holds. node:zlib throws away what it has when a limit is reached, so look for the
 * shortest piece of input that fills `output`: at most 21 steps, each bounded in memory.
 */
function inflateLonger(stored: Uint8Array, output: Uint8Array): InflateResult {
  let short = 0;
  let enough = stored.length;
  while (enough - short > 1) {
    const middle = Math.floor((short + enough) / 2);
    const bytes = inflatePiece(stored.subarray(0, middle), output.length + MAX_OUTPUT_OF_ONE_BYTE);
    if (bytes === 'too much' || bytes.length >= output.length) enough = middle;
    else short = middle;
  }
  const bytes = inflatePiece(stored.subarray(0, enough), output.length + MAX_OUTPUT_OF_ONE_BYTE);
  if (bytes === 'too much') return 'damaged';
  output.set(bytes.subarray(0, output.length));
  return 'done';
}

function inflatePiece(piece: Uint8Array, limit: number): Uint8Array | 'too much' {
  try {
    return inflateRawSync(piece, { finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: limit, chunkSize: limit + ROOM });
  } catch (error) {
    const code = systemCode(error);
    // Damage can only lie behind the cluster here: the whole stream gave more than a cluster before anything was wrong.
    if (code === 'ERR_BUFFER_TOO_LARGE' || code === 'Z_DATA_ERROR') return 'too much';
    throw error;
  }
}

/** Bytes written to `output`, or undefined when the stream does not fit. */
export function deflateInto(input: Uint8Array, output: Uint8Array, level: number): number | undefined {
  try {
    const bytes = deflateRawSync(input, {
      level,
      windowBits: WINDOW_BITS,
      maxOutputLength: output.length,
      chunkSize: output.length + ROOM,
    });
    output.set(bytes);
    return bytes.length;
  } catch (error) {
    if (systemCode(error) === 'ERR_BUFFER_TOO_LARGE') return undefined;
    throw error;
  }
}
