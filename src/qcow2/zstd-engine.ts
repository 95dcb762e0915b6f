// The two ways to zstd: the library that is linked into Node, called with one context that is used again and again, and node:zlib.
// It must not know clusters; lengths passed to foreign functions are always those of the given arrays.

import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { ChainkeepError, systemCode } from '../plumbing/errors.ts';
import type { ForeignFunction, Native } from '../plumbing/native.ts';

export interface ZstdEngine {
  /** Decodes one whole frame into `output` and answers the number of bytes, or undefined when the frame is damaged or does not fit. */
  decode(frame: Uint8Array, output: Uint8Array): number | undefined;
  /** Encodes into `output` and answers the number of bytes, or undefined when it does not fit. */
  encode(input: Uint8Array, output: Uint8Array, level: number): number | undefined;
  close(): void;
}

/** `ZSTD_ErrorCode` of zstd_errors.h, stable since 1.0. */
const ERROR_MEMORY = 64;
const ERROR_OUTPUT_TOO_SMALL = 70;

/** Undefined where Node does not export the functions. */
export function openNativeZstd(native: Native): ZstdEngine | undefined {
  const createEncoder = native.symbol('void *ZSTD_createCCtx()');
  const createDecoder = native.symbol('void *ZSTD_createDCtx()');
  const freeEncoder = native.symbol('size_t ZSTD_freeCCtx(void *)');
  const freeDecoder = native.symbol('size_t ZSTD_freeDCtx(void *)');
  const compress = native.symbol('size_t ZSTD_compressCCtx(void *, void *, size_t, void *, size_t, int)');
  const decompress = native.symbol('size_t ZSTD_decompressDCtx(void *, void *, size_t, void *, size_t)');
  if (!createEncoder || !createDecoder || !freeEncoder || !freeDecoder || !compress || !decompress) return undefined;
  // Contexts are made at first use: an encoder alone takes half a megabyte, and a reader needs none.
  let encoder: unknown;
  let decoder: unknown;
  return {
    decode(frame, output) {
      decoder ??= createContext(createDecoder);
      const result = decompress(decoder, output, output.length, frame, frame.length);
      const error = errorNumber(result);
      if (error === ERROR_MEMORY) throw outOfMemory();
      return error === undefined ? Number(result) : undefined;
    },
    encode(input, output, level) {
      encoder ??= createContext(createEncoder);
      const result = compress(encoder, output, output.length, input, input.length, level);
      const error = errorNumber(result);
      if (error === ERROR_MEMORY) throw outOfMemory();
      if (error === ERROR_OUTPUT_TOO_SMALL) return undefined;
      if (error !== undefined) throw new ChainkeepError('INTERNAL', `zstd refused to compress: error ${error}`, { context: { level } });
      return Number(result);
    },
    close() {
      if (encoder) freeEncoder(encoder);
      if (decoder) freeDecoder(decoder);
      encoder = undefined;
      decoder = undefined;
    },
  };
}

/** zstd answers errors as the negative code in a size_t, which arrives as a bigint above 2^53. */
function errorNumber(result: unknown): number | undefined {
  return typeof result === 'bigint' ? Number((1n << 64n) - result) : undefined;
}

function createContext(create: ForeignFunction): unknown {
  const context = create();
  if (!context) throw outOfMemory();
  return context;
}

function outOfMemory(): ChainkeepError {
  return new ChainkeepError('INTERNAL', 'zstd found no memory', { advice: 'give the process more memory' });
}

/** Half as fast, on every platform. */
export const portableZstd: ZstdEngine = {
  decode(frame, output) {
    try {
      const decoded = zstdDecompressSync(frame, { maxOutputLength: output.length, chunkSize: Math.max(64, output.length) });
      output.set(decoded);
      return decoded.length;
    } catch (error) {
      if (isRefusal(error)) return undefined;
      throw error;
    }
  },
  encode(input, output, level) {
    const encoded = zstdCompressSync(input, { params: { [constants.ZSTD_c_compressionLevel]: level } });
    if (encoded.length > output.length) return undefined;
    output.set(encoded);
    return encoded.length;
  },
  close: () => undefined,
};

/** Is this node:zlib's way to say that the input is damaged or the output too large, and not a fault of ours? */
function isRefusal(error: unknown): boolean {
  const code = systemCode(error);
  return code === 'ERR_BUFFER_TOO_LARGE' || code?.startsWith('ZSTD_error_') === true || code === 'Z_BUF_ERROR';
}
