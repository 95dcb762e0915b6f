// The judge: what the bytes of a QCOW2 image say its disk is, by QEMU's docs/interop/qcow2.rst, cluster by cluster and with nothing
// optimised. It shares no code with src/qcow2; the one thing in common is libzstd, which only decodes a frame here.
// It must refuse wherever the format does not decide: nothing may turn into zeros.

import { constants, zstdDecompressSync } from 'node:zlib';
import { inflate } from './inflate.ts';

/** What an image says before any table is read. */
export interface Said {
  readonly version: number;
  readonly clusterSize: number;
  readonly clusterBits: number;
  readonly size: number;
  readonly l1Size: number;
  readonly l1Offset: number;
  readonly extended: boolean;
  readonly zstd: boolean;
}

/**
 * `bytes`: what a cluster reads as; with `mayRefuse` a reader may also say no (what lies behind the cluster in the stream is open to
 * dispute). `refuse`: a reader that gives anything is wrong.
 */
export type Verdict = { readonly bytes: Uint8Array; readonly mayRefuse?: boolean } | { readonly refuse: string };

/** The file: only the first `length` bytes exist. */
export interface JudgedFile {
  readonly bytes: Buffer;
  readonly length: number;
  /** A compressed cluster that is known from before; the bytes it is made of were not touched. */
  known?(at: number, length: number, said: Said): Verdict | undefined;
}

const OFFSET = 0x00ff_ffff_ffff_fe00n;
const TIB64 = 2n ** 46n;
/** Above it JavaScript's numbers are not exact: a reader may refuse a place there even where nothing has to be read from it. */
const EXACT = 2n ** 53n;
const ZEROS = new Uint8Array(2 ** 21);

/** What the image says, or why every reader must refuse it. */
export function judgeHeader({ bytes, length }: JudgedFile): Said | string {
  if (length < 72 || bytes.readUInt32BE(0) !== 0x514649fb) return 'no image';
  const version = bytes.readUInt32BE(4);
  const clusterBits = bytes.readUInt32BE(20);
  if (version !== 2 && version !== 3) return 'version';
  if (clusterBits < 9 || clusterBits > 21) return 'cluster bits';
  if (bytes.readUInt32BE(32) !== 0) return 'encrypted';
  const headerLength = version === 2 ? 72 : length < 104 ? 0 : bytes.readUInt32BE(100);
  if (version === 3 && (headerLength < 104 || headerLength > 2 ** clusterBits)) return 'header length';
  const incompatible = version === 2 ? 0n : bytes.readBigUInt64BE(72);
  if ((incompatible & ~0b11011n) !== 0n) return 'a feature that is not known, or an external data file';
  const type = version === 3 && headerLength > 104 ? bytes.readUInt8(104) : 0;
  if (type > 1 || (type === 1) !== ((incompatible & 8n) !== 0n)) return 'compression type';
  const extended = (incompatible & 16n) !== 0n;
  if (extended && clusterBits < 14) return 'extended entries in small clusters';
  const clusterSize = 2 ** clusterBits;
  const size = bytes.readBigUInt64BE(24);
  if (size > TIB64) return 'size';
  const l1Size = bytes.readUInt32BE(36);
  const l1Offset = bytes.readBigUInt64BE(40);
  const perTable = BigInt(clusterSize) * BigInt(clusterSize / (extended ? 16 : 8));
  if (BigInt(l1Size) * perTable < size) return 'the L1 table is too small';
  if (l1Size > 0 && (l1Offset === 0n || l1Offset % BigInt(clusterSize) !== 0n)) return 'the place of the L1 table';
  if (l1Size > 0 && l1Offset + BigInt(l1Size) * 8n > BigInt(length)) return 'the L1 table is not in the file';
  return { version, clusterSize, clusterBits, size: Number(size), l1Size, l1Offset: Number(l1Offset), extended, zstd: type === 1 };
}

/** What guest cluster `cluster` reads as, with zeros where the image leaves it to what lies below. */
export function judgeCluster(file: JudgedFile, said: Said, cluster: number, strict: boolean): Verdict {
  const { clusterSize, extended } = said;
  const width = extended ? 16 : 8;
  const perTable = clusterSize / width;
  const l1 = file.bytes.readBigUInt64BE(said.l1Offset + Math.floor(cluster / perTable) * 8);
  const table = l1 & OFFSET;
  const needed = Math.min(clusterSize, said.size - cluster * clusterSize);
  const problem = judgeTableEntry(l1, clusterSize, file.length, strict);
  if (problem !== undefined) return { refuse: problem };
  if (table === 0n) return { bytes: ZEROS.subarray(0, needed) };
  const at = Number(table) + (cluster % perTable) * width;
  const entry = file.bytes.readBigUInt64BE(at);
  const subclusters = extended ? file.bytes.readBigUInt64BE(at + 8) : undefined;
  if ((entry & (1n << 62n)) !== 0n) return judgeCompressed(file, said, { entry, bitmap: subclusters ?? 0n, needed, strict });
  const oddities = extended ? 0x3f00_0000_0000_01ffn : 0x3f00_0000_0000_01fen;
  const host = entry & OFFSET;
  if (host === 0n && entry >> 63n === 1n) return { refuse: 'COPIED without an offset' };
  if (host % BigInt(clusterSize) !== 0n) return { refuse: 'unaligned offset' };
  if (!extended && said.version === 2 && (entry & 1n) === 1n) return { refuse: 'a zero flag in version 2' };
  if (strict && (entry & oddities) !== 0n) return { refuse: 'reserved bits' };
  if (subclusters !== undefined) return judgeSubclusters(file, clusterSize, { host, subclusters, needed });
  if (host === 0n || (entry & 1n) === 1n) return { bytes: ZEROS.subarray(0, needed), mayRefuse: host >= EXACT };
  return inFile(file, host, needed) ?? { refuse: 'data that are not in the file' };
}

function judgeTableEntry(l1: bigint, clusterSize: number, length: number, strict: boolean): string | undefined {
  const table = l1 & OFFSET;
  if (table === 0n && l1 >> 63n === 1n) return 'COPIED without an L2 table';
  if (table % BigInt(clusterSize) !== 0n) return 'unaligned L2 table';
  if (strict && (l1 & 0x7f00_0000_0000_01ffn) !== 0n) return 'reserved bits in the L1 table';
  return table !== 0n && table + BigInt(clusterSize) > BigInt(length) ? 'an L2 table that is not in the file' : undefined;
}

function inFile({ bytes, length }: JudgedFile, offset: bigint, needed: number): Verdict | undefined {
  return offset + BigInt(needed) > BigInt(length) ? undefined : { bytes: bytes.subarray(Number(offset), Number(offset) + needed) };
}

interface Subclustered {
  readonly host: bigint;
  readonly subclusters: bigint;
  readonly needed: number;
}

function judgeSubclusters(file: JudgedFile, clusterSize: number, { host, subclusters, needed }: Subclustered): Verdict {
  const allocated = subclusters & 0xffff_ffffn;
  if ((allocated & (subclusters >> 32n)) !== 0n) return { refuse: 'a subcluster that is both' };
  if (allocated !== 0n && host === 0n) return { refuse: 'a subcluster without a place' };
  const bytes = new Uint8Array(needed);
  const unit = clusterSize / 32;
  for (let at = 0; at < needed; at += unit) {
    if (((allocated >> BigInt(at / unit)) & 1n) === 0n) continue;
    const part = inFile(file, host + BigInt(at), Math.min(unit, needed - at));
    if (part === undefined || !('bytes' in part)) return { refuse: 'a subcluster that is not in the file' };
    bytes.set(part.bytes, at);
  }
  return { bytes, mayRefuse: host >= EXACT };
}

interface CompressedEntry {
  readonly entry: bigint;
  readonly bitmap: bigint;
  readonly needed: number;
  readonly strict: boolean;
}

function judgeCompressed(file: JudgedFile, said: Said, { entry, bitmap, needed, strict }: CompressedEntry): Verdict {
  if (strict && (entry >> 63n === 1n || bitmap !== 0n)) return { refuse: 'flags on a compressed cluster' };
  const x = BigInt(62 - (said.clusterBits - 8));
  const offset = entry & ((1n << x) - 1n);
  if (offset >= BigInt(file.length)) return { refuse: 'a stream that is not in the file' };
  const at = Number(offset);
  const sectors = Number((entry & ((1n << 62n) - 1n)) >> x);
  const length = Math.min((sectors + 1) * 512 - (at % 512), file.length - at);
  const whole = file.known?.(at, length, said) ?? judgeStream(file.bytes.subarray(at, at + length), said);
  return 'bytes' in whole ? { ...whole, bytes: whole.bytes.subarray(0, needed) } : whole;
}

export function judgeStream(stored: Uint8Array, { zstd, clusterSize }: Pick<Said, 'zstd' | 'clusterSize'>): Verdict {
  const bytes = new Uint8Array(clusterSize);
  if (zstd) return judgeFrames(stored, bytes);
  const end = inflate(stored, bytes);
  if (end === 'short' || end === 'damaged') return { refuse: `a ${end} stream` };
  return end === 'exact' ? { bytes } : { bytes, mayRefuse: true };
}

/** Frames until the cluster is full; what follows them is nobody's business. */
function judgeFrames(stored: Uint8Array, bytes: Uint8Array): Verdict {
  let done = 0;
  for (let at = 0; done < bytes.length; ) {
    const length = frameLength(stored.subarray(at));
    if (length === undefined) return { refuse: 'no frame' };
    const frame = stored.subarray(at, at + length);
    at += length;
    if (frame[3] === 0x18) continue; // a skippable frame
    const decoded = decodeFrame(frame, bytes.length - done);
    if (decoded === undefined) return { refuse: 'a damaged frame' };
    bytes.set(decoded, done);
    done += decoded.length;
  }
  return { bytes };
}

function decodeFrame(frame: Uint8Array, limit: number): Uint8Array | undefined {
  try {
    return zstdDecompressSync(frame, { maxOutputLength: limit, params: { [constants.ZSTD_d_windowLogMax]: 27 } });
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    if (code.startsWith('ZSTD_error_') || code === 'ERR_BUFFER_TOO_LARGE' || code === 'Z_BUF_ERROR') return undefined;
    throw error;
  }
}

/** RFC 8878, 3.1.1: the bytes of the frame at the beginning, undefined where it does not end. */
function frameLength(stored: Uint8Array): number | undefined {
  const view = Buffer.from(stored.buffer, stored.byteOffset, stored.length);
  if (view.length < 8) return undefined;
  const magic = view.readUInt32LE(0);
  if (magic >= 0x184d2a50 && magic <= 0x184d2a5f) return within(8 + view.readUInt32LE(4), view.length);
  if (magic !== 0xfd2fb528) return undefined;
  const descriptor = view.readUInt8(4);
  const single = (descriptor >> 5) & 1;
  const sizeBytes = [single, 2, 4, 8][descriptor >> 6] ?? 0;
  let at = 5 + (1 - single) + ([0, 1, 2, 4][descriptor & 3] ?? 0) + sizeBytes;
  for (;;) {
    if (at + 3 > view.length) return undefined;
    const head = view.readUIntLE(at, 3);
    at += 3 + (((head >> 1) & 3) === 1 ? 1 : head >> 3);
    if ((head & 1) === 1) return within(at + ((descriptor & 4) === 4 ? 4 : 0), view.length);
  }
}

function within(length: number, available: number): number | undefined {
  return length <= available ? length : undefined;
}
