// What a worker does with one unit: read, zero?, digest, same as expected?, compress, write. Synchronous; no threads here.
// It must not decide anything about chains or formats: the unit says what to read and what to expect.

import type { Blake3 } from '../plumbing/blake3.ts';
import { DIGEST_BYTES } from '../plumbing/blake3.ts';
import type { Crc32c } from '../plumbing/crc32c.ts';
import { nonZeroRanges } from './non-zero-ranges.ts';
import { PackedRun } from './packed-run.ts';
import {
  CLUSTER,
  type ClusterCodec,
  COMPRESSIONS,
  OUTCOME,
  PIECE,
  PIECE_NUMBERS,
  type Unit,
  type UnitResult,
  type WorkerSetup,
} from './unit.ts';

/** The bytes a worker can reach; every method throws on failure and never does half of it silently. */
export interface UnitIo {
  read(source: number, buffer: Uint8Array, offset: number): void;
  /** Appends one cluster-aligned run to the image, answers where it landed. */
  append(buffers: readonly Uint8Array[]): number;
  /** Writes to the disk at a guest offset. */
  write(buffers: readonly Uint8Array[], offset: number): void;
}

export interface UnitTools {
  readonly blake3: Blake3;
  readonly crc32c: Crc32c;
  readonly codec: ClusterCodec;
}

/** A failure with the guest offset and the step where it happened. */
export class UnitFailure extends Error {
  override readonly name = 'UnitFailure';
  readonly op: 'read' | 'write' | 'expand' | 'digest';
  readonly offset: number;
  readonly source: number | undefined;

  constructor(op: 'read' | 'write' | 'expand' | 'digest', offset: number, cause: unknown, source?: number) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.op = op;
    this.offset = offset;
    this.source = source;
  }
}

type MutableResult = { -readonly [Key in keyof UnitResult]: UnitResult[Key] };

export class UnitRunner {
  readonly #setup: WorkerSetup;
  readonly #io: UnitIo;
  readonly #tools: UnitTools;
  readonly #buffer: Buffer;
  #stored = Buffer.alloc(0);
  #expanded = Buffer.alloc(0);
  readonly #zeros: Buffer;
  readonly #digest = Buffer.alloc(DIGEST_BYTES);
  readonly #pack: PackedRun | undefined;
  #finished: UnitResult[] = [];

  constructor(setup: WorkerSetup, io: UnitIo, tools: UnitTools) {
    this.#setup = setup;
    this.#io = io;
    this.#tools = tools;
    this.#buffer = Buffer.alloc(setup.unitBytes);
    this.#zeros = Buffer.alloc(setup.clusterSize);
    const { output } = setup;
    if (output.kind === 'image' && output.compression !== 'none') {
      const offset = (): number => this.#finished[0]?.offset ?? 0;
      this.#pack = new PackedRun(setup.clusterSize, (buffers) => attempt('write', offset(), undefined, () => this.#io.append(buffers)));
    }
  }

  /** Handles one unit; its result is in a later `take()` where compressed clusters still wait for their run to fill. */
  run(unit: Unit): void {
    const clusters = Math.ceil(unit.length / this.#setup.clusterSize);
    const recorded = this.#setup.output.kind === 'image' ? clusters : 0;
    const result: MutableResult = { ...allocateResult(unit, clusters, recorded), bytesRead: 0, bytesWritten: 0 };
    this.#fill(unit, result);
    const write: number[] = [];
    for (let index = 0; index < clusters; index++) {
      if (result.outcome[index] === OUTCOME.UNREADABLE) continue;
      const outcome = this.#judge(unit, result, index);
      result.outcome[index] = outcome;
      if (outcome === OUTCOME.PLAIN) write.push(index);
    }
    this.#put(unit, result, write);
    this.#finished.push(result);
  }

  /** Results that are complete, in the order of their units. */
  take(): UnitResult[] {
    if (this.#pack?.pending) return [];
    const finished = this.#finished;
    this.#finished = [];
    return finished;
  }

  /** How many results wait for their run to be written. */
  get waiting(): number {
    return this.#finished.length;
  }

  /** Writes what is still packed; afterwards `take()` answers everything. */
  flush(): void {
    this.#pack?.flush();
  }

  #fill(unit: Unit, result: MutableResult): void {
    const { pieces } = unit;
    const { clusterSize } = this.#setup;
    const padded = Math.ceil(unit.length / clusterSize) * clusterSize;
    this.#clearGaps(pieces, padded);
    for (let at = 0; at < pieces.length; at += PIECE_NUMBERS) {
      const piece = pieces.subarray(at, at + PIECE_NUMBERS);
      try {
        this.#readPiece(unit, piece, result);
      } catch (error) {
        if (this.#setup.expected !== 'report') throw error;
        const first = Math.floor((piece[PIECE.OFFSET] ?? 0) / clusterSize);
        const last = Math.ceil(((piece[PIECE.OFFSET] ?? 0) + (piece[PIECE.LENGTH] ?? 0)) / clusterSize);
        this.#isolate(unit, piece, result, first, last);
      }
    }
  }

  /** What no piece covers reads as zeros; pieces come in ascending order. */
  #clearGaps(pieces: Float64Array, padded: number): void {
    let end = 0;
    for (let at = 0; at < pieces.length; at += PIECE_NUMBERS) {
      const start = pieces[at + PIECE.OFFSET] ?? 0;
      if (start > end) this.#buffer.fill(0, end, start);
      end = start + (pieces[at + PIECE.LENGTH] ?? 0);
    }
    if (padded > end) this.#buffer.fill(0, end, padded);
  }

  /** A piece of several clusters failed: read them one by one, so that only what is really unreadable is reported. */
  #isolate(unit: Unit, piece: Float64Array, result: MutableResult, first: number, last: number): void {
    const { clusterSize } = this.#setup;
    const start = piece[PIECE.OFFSET] ?? 0;
    const end = start + (piece[PIECE.LENGTH] ?? 0);
    for (let index = first; index < last; index++) {
      const from = Math.max(start, index * clusterSize);
      const part = Float64Array.from(piece);
      part[PIECE.OFFSET] = from;
      part[PIECE.LENGTH] = Math.min(end, (index + 1) * clusterSize) - from;
      if (part[PIECE.COMPRESSION] === 0) part[PIECE.AT] = (piece[PIECE.AT] ?? 0) + from - start;
      try {
        this.#readPiece(unit, part, result);
      } catch (error) {
        result.outcome[index] = OUTCOME.UNREADABLE;
        result.failure ??= error instanceof Error ? error.message : String(error);
      }
    }
  }

  #readPiece(unit: Unit, piece: Float64Array, result: MutableResult): void {
    const [offset = 0, length = 0, source = -1, at = 0, storedLength = 0, compression = 0, expanded = 0] = piece;
    const target = this.#buffer.subarray(offset, offset + length);
    const guest = unit.offset + offset;
    if (compression === 0) {
      attempt('read', guest, source, () => this.#io.read(source, target, at));
      result.bytesRead += length;
      return;
    }
    this.#stored = atLeast(this.#stored, storedLength);
    const stored = this.#stored.subarray(0, storedLength);
    attempt('read', guest, source, () => this.#io.read(source, stored, at));
    result.bytesRead += storedLength;
    this.#checkStored(unit, Math.floor(offset / this.#setup.clusterSize), stored, guest, source);
    const algorithm = COMPRESSIONS[compression] === 'zlib' ? 'zlib' : 'zstd';
    this.#expanded = atLeast(this.#expanded, expanded);
    const cluster = expanded === length ? target : this.#expanded.subarray(0, expanded);
    attempt('expand', guest, source, () => this.#tools.codec.decompress(algorithm, stored, cluster));
    if (cluster !== target) target.set(cluster.subarray(0, length));
  }

  #checkStored(unit: Unit, index: number, stored: Uint8Array, guest: number, source: number): void {
    const expected = unit.expectedCrcs?.[index];
    if (expected === undefined || this.#tools.crc32c(stored) === expected) return;
    throw new UnitFailure('digest', guest, new Error('the stored bytes do not have the CRC32C that was recorded for them'), source);
  }

  #judge(unit: Unit, result: MutableResult, index: number): number {
    const { clusterSize, expected, output } = this.#setup;
    const cluster = this.#buffer.subarray(index * clusterSize, (index + 1) * clusterSize);
    const kind = unit.expectedKinds?.[index] ?? CLUSTER.UNKNOWN;
    if (cluster.equals(this.#zeros)) {
      if (isCheck(expected) && kind === CLUSTER.DATA) return this.#mismatch(unit, index);
      return OUTCOME.ZERO;
    }
    if (this.#setup.digests) {
      this.#tools.blake3.hashInto(cluster, this.#digest, 0);
      if (output.kind === 'image') result.digests.set(this.#digest, index * DIGEST_BYTES);
      const same = kind === CLUSTER.DATA && sameDigest(unit.expectedDigests, index, this.#digest);
      if (expected === 'compare' && same) return OUTCOME.SAME;
      if (isCheck(expected) && !same) return this.#mismatch(unit, index);
    }
    if (output.kind === 'none') return OUTCOME.SAME;
    if (this.#pack && output.kind === 'image' && this.#compress(cluster, result, index, output.level)) return OUTCOME.COMPRESSED;
    return OUTCOME.PLAIN;
  }

  #mismatch(unit: Unit, index: number): number {
    if (this.#setup.expected === 'report') return OUTCOME.MISMATCH;
    const guest = unit.offset + index * this.#setup.clusterSize;
    throw new UnitFailure('digest', guest, new Error('the cluster does not have the digest that was recorded for it'));
  }

  #compress(cluster: Buffer, result: MutableResult, index: number, level: number): boolean {
    const pack = this.#pack;
    if (!pack) return false;
    const room = pack.room(this.#setup.clusterSize);
    const { output } = this.#setup;
    const zlib = output.kind === 'image' && output.compression === 'zlib';
    const length = zlib ? this.#tools.codec.compressZlib(cluster, room, level) : this.#tools.codec.compressZstd(cluster, room, level);
    if (length === 0) return false;
    result.crcs[index] = this.#tools.crc32c(room.subarray(0, length));
    result.storedLengths[index] = length;
    result.bytesWritten += length;
    const { hostOffsets } = result;
    pack.commit(length, (offset) => {
      hostOffsets[index] = offset;
    });
    return true;
  }

  #put(unit: Unit, result: MutableResult, write: readonly number[]): void {
    const { clusterSize, output } = this.#setup;
    if (output.kind === 'image' && write.length > 0) {
      const first = attempt('write', unit.offset, undefined, () => this.#io.append(runs(this.#buffer, write, clusterSize)));
      write.forEach((index, position) => {
        result.hostOffsets[index] = first + position * clusterSize;
      });
      result.bytesWritten += write.length * clusterSize;
    }
    if (output.kind !== 'disk') return;
    const indexes = output.skipZero ? write : Array.from(result.outcome.keys());
    for (const [from, to] of adjacent(indexes)) {
      // The last cluster of the buffer is padded; a disk ends where it ends.
      const end = Math.min(to * clusterSize, unit.length);
      const ranges = output.skipZero ? nonZeroRanges(this.#buffer, from * clusterSize, end) : [[from * clusterSize, end] as const];
      for (const [start, stop] of ranges) {
        const offset = unit.offset + start;
        attempt('write', offset, undefined, () => this.#io.write([this.#buffer.subarray(start, stop)], offset));
        result.bytesWritten += stop - start;
      }
    }
  }
}

/** All arrays of a result lie in one buffer: it goes to the main thread without being copied, and one is cheaper than five. */
function allocateResult(unit: Unit, clusters: number, recorded: number): Omit<UnitResult, 'bytesRead' | 'bytesWritten'> {
  const buffer = new ArrayBuffer(recorded * (8 + DIGEST_BYTES + 4 + 4) + clusters);
  let at = 0;
  const take = (bytes: number): number => {
    at += bytes;
    return at - bytes;
  };
  return {
    seq: unit.seq,
    offset: unit.offset,
    length: unit.length,
    hostOffsets: new Float64Array(buffer, take(recorded * 8), recorded),
    digests: new Uint8Array(buffer, take(recorded * DIGEST_BYTES), recorded * DIGEST_BYTES),
    storedLengths: new Uint32Array(buffer, take(recorded * 4), recorded),
    crcs: new Uint32Array(buffer, take(recorded * 4), recorded),
    outcome: new Uint8Array(buffer, take(clusters), clusters),
  };
}

function atLeast(buffer: Buffer<ArrayBuffer>, length: number): Buffer<ArrayBuffer> {
  return buffer.length >= length ? buffer : Buffer.alloc(length);
}

function isCheck(expected: WorkerSetup['expected']): boolean {
  return expected === 'require' || expected === 'report';
}

function attempt<T>(op: 'read' | 'write' | 'expand', offset: number, source: number | undefined, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw new UnitFailure(op, offset, error, source);
  }
}

function sameDigest(digests: Uint8Array | undefined, index: number, digest: Uint8Array): boolean {
  if (!digests) return false;
  const start = index * DIGEST_BYTES;
  for (let byte = 0; byte < DIGEST_BYTES; byte++) if (digests[start + byte] !== digest[byte]) return false;
  return true;
}

/** [from, to) of each run of adjacent cluster indexes. */
function adjacent(indexes: readonly number[]): [number, number][] {
  const found: [number, number][] = [];
  for (const index of indexes) {
    const last = found.at(-1);
    if (last && last[1] === index) last[1] = index + 1;
    else found.push([index, index + 1]);
  }
  return found;
}

function runs(buffer: Buffer, indexes: readonly number[], clusterSize: number): Uint8Array[] {
  return adjacent(indexes).map(([from, to]) => buffer.subarray(from * clusterSize, to * clusterSize));
}
