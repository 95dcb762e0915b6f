// Raw deflate through the zlib that is linked into Node: into the given memory, with one stream that is used again and again.
// node:zlib makes a new buffer for each cluster, and half a gigabyte of them is dead before anybody clears it away.

import { ChainkeepError } from '../plumbing/errors.ts';
import type { ForeignFunction, Native } from '../plumbing/native.ts';
import type { InflateResult } from './deflate.ts';

export interface NativeInflate {
  /** As `inflateInto` of deflate.ts. */
  inflateInto(stored: Uint8Array, output: Uint8Array): InflateResult;
  close(): void;
}

/** `z_stream` of zlib.h, on systems with pointers and longs of 64 bits. */
const STREAM_BYTES = 112;
const NEXT_IN = 0;
const AVAIL_IN = 8;
const NEXT_OUT = 24;
const AVAIL_OUT = 32;
/** Not less: V8 may move arrays of up to 64 bytes. */
const REST_BYTES = 128;
/** A negative window says that there is no zlib header; 32 KiB is what qemu reads with. */
const RAW_WINDOW_BITS = -15;
const Z_FINISH = 4;
/** The functions refuse another major version, and a `z_stream` of another size. */
const ZLIB_VERSION = '1';

const Z_OK = 0;
const Z_STREAM_END = 1;
const Z_NEED_DICT = 2;
const Z_DATA_ERROR = -3;
const Z_BUF_ERROR = -5;

interface Zlib {
  readonly inflate: ForeignFunction;
  readonly reset: ForeignFunction;
  readonly end: ForeignFunction;
  /** The address of an array that does not move while it is held. */
  addressOf(bytes: Uint8Array): bigint;
}

/** Undefined where Node does not export the functions, or has another kind of zlib. */
export function openNativeInflate(native: Native): NativeInflate | undefined {
  const init = native.symbol('int inflateInit2_(void *, int, const char *, int)');
  const inflate = native.symbol('int inflate(void *, int)');
  const reset = native.symbol('int inflateReset(void *)');
  const end = native.symbol('int inflateEnd(void *)');
  // Copies nothing, and answers where it would have copied to.
  const copy = native.symbol('uintptr_t memcpy(void *, void *, size_t)');
  if (!init || !inflate || !reset || !end || !copy) return undefined;
  const stream = new Uint8Array(STREAM_BYTES);
  if (init(stream, RAW_WINDOW_BITS, ZLIB_VERSION, STREAM_BYTES) !== Z_OK) return undefined;
  const zlib: Zlib = { inflate, reset, end, addressOf: (bytes) => BigInt(Number(copy(bytes, bytes, 0))) };
  return {
    inflateInto: (stored, output) => inflateInto(zlib, stream, stored, output),
    close: () => void end(stream),
  };
}

function inflateInto(zlib: Zlib, stream: Uint8Array, stored: Uint8Array, output: Uint8Array): InflateResult {
  if (zlib.reset(stream) !== Z_OK) throw new ChainkeepError('INTERNAL', 'zlib refused to begin a stream');
  const fields = new DataView(stream.buffer);
  fields.setBigUint64(NEXT_IN, zlib.addressOf(stored), true);
  fields.setUint32(AVAIL_IN, stored.length, true);
  const result = fill(zlib, stream, output);
  const full = fields.getUint32(AVAIL_OUT, true) === 0;
  if (result === Z_STREAM_END) return full ? 'done' : 'short';
  if (result === Z_DATA_ERROR || result === Z_NEED_DICT) return 'damaged';
  if (result !== Z_BUF_ERROR && result !== Z_OK) {
    throw new ChainkeepError('INTERNAL', `zlib refused to decompress: error ${String(result)}`, { advice: 'give the process more memory' });
  }
  return full && goesOn(zlib, stream) ? 'done' : 'short';
}

function fill(zlib: Zlib, stream: Uint8Array, output: Uint8Array): unknown {
  const fields = new DataView(stream.buffer);
  fields.setBigUint64(NEXT_OUT, zlib.addressOf(output), true);
  fields.setUint32(AVAIL_OUT, output.length, true);
  return zlib.inflate(stream, Z_FINISH);
}

/** Is there more behind the cluster? If not, the stream was cut where the cluster ends, without its last block. */
function goesOn(zlib: Zlib, stream: Uint8Array): boolean {
  const fields = new DataView(stream.buffer);
  if (fields.getUint32(AVAIL_IN, true) > 0) return true;
  const rest = new Uint8Array(REST_BYTES);
  return fill(zlib, stream, rest) === Z_STREAM_END || fields.getUint32(AVAIL_OUT, true) < REST_BYTES;
}
