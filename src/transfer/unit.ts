// What travels between the main thread and the workers of a transfer: plain data only.

import type { Compression } from '../disk/extent.ts';

/** Numbers of one piece in `Unit.pieces`, in this order. */
export const PIECE_NUMBERS = 7;
export const PIECE = {
  /** Bytes from the start of the unit. */
  OFFSET: 0,
  /** Expanded bytes. */
  LENGTH: 1,
  /** Index into the table of byte sources; -1: ask the main thread, which reads through the DiskReader. */
  SOURCE: 2,
  /** Offset in the byte source. */
  AT: 3,
  /** Stored bytes to read (`compression` other than none). */
  STORED_LENGTH: 4,
  /** Index into COMPRESSIONS. */
  COMPRESSION: 5,
  /** Bytes the stream expands to, of which the first LENGTH count (`compression` other than none). */
  EXPANDED: 6,
} as const;
export const COMPRESSIONS: readonly Compression[] = ['none', 'zlib', 'zstd'];

/** What a cluster is, or is expected to be. One byte each in the arrays below. */
export const CLUSTER = { UNKNOWN: 0, DATA: 1, ZERO: 2 } as const;

/** What became of a cluster. One byte each in `UnitResult.outcome`. */
export const OUTCOME = {
  /** All zeros: nothing was written. */
  ZERO: 0,
  /** Same digest as expected: nothing was written (compare), or checked and good (check). */
  SAME: 1,
  /** Written to the image or the disk as it is. */
  PLAIN: 2,
  /** Written to the image compressed. */
  COMPRESSED: 3,
  /** Check only: the bytes do not have the expected digest. */
  MISMATCH: 4,
  /** Check only: the bytes could not be read or expanded. */
  UNREADABLE: 5,
} as const;

/** A cluster-aligned part of the disk that one worker handles in one go. */
export interface Unit {
  /** 0, 1, 2 …: the order of results. */
  readonly seq: number;
  /** Bytes from the start of the disk, a multiple of the cluster size. */
  readonly offset: number;
  /** Bytes; cut only by the end of the disk. */
  readonly length: number;
  /** PIECE_NUMBERS numbers for each piece; what no piece covers reads as zeros. */
  readonly pieces: Float64Array;
  /** One byte per cluster (CLUSTER), where something is expected. */
  readonly expectedKinds?: Uint8Array;
  /** 32 bytes per cluster; only meaningful where the kind is DATA. */
  readonly expectedDigests?: Uint8Array;
  /** CRC32C of the stored bytes per cluster, where they are compressed (else 0). */
  readonly expectedCrcs?: Uint32Array;
}

export interface UnitResult {
  readonly seq: number;
  readonly offset: number;
  readonly length: number;
  readonly outcome: Uint8Array<ArrayBuffer>;
  /** 32 bytes per cluster, where the outcome is not ZERO; like the next three empty unless an image is written. */
  readonly digests: Uint8Array;
  /** Where the cluster lies in the image (PLAIN, COMPRESSED). */
  readonly hostOffsets: Float64Array;
  /** Stored bytes (COMPRESSED). */
  readonly storedLengths: Uint32Array;
  readonly crcs: Uint32Array;
  /** Bytes read from sources, stored bytes where compressed. */
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** First failure of an UNREADABLE cluster, for the report. */
  readonly failure?: string;
}

/** How a digest that was expected is used. */
export type ExpectedUse =
  /** Nothing is expected. */
  | 'ignore'
  /** The parent reads so: a cluster that is the same is not stored again. */
  | 'compare'
  /** It must be so: anything else is damage; stops at the first. */
  | 'require'
  /** It must be so: anything else is damage; reports it and goes on. */
  | 'report';

/** Expands and compresses clusters, synchronously. */
export interface ClusterCodec {
  /** Fills `output`, exactly one cluster; throws on a damaged stream. */
  decompress(compression: 'zlib' | 'zstd', stored: Uint8Array, output: Uint8Array): void;
  /** Bytes written, or 0 when the result would not be smaller. */
  compressZstd(cluster: Uint8Array, output: Uint8Array, level: number): number;
  compressZlib(cluster: Uint8Array, output: Uint8Array, level: number): number;
}

export type OutputSetup =
  | { readonly kind: 'none' }
  | { readonly kind: 'image'; readonly compression: Compression; readonly level: number; readonly target: WriteTarget }
  | { readonly kind: 'disk'; readonly skipZero: boolean; readonly target: WriteTarget };

/** A descriptor the worker writes to by itself, or undefined: the main thread writes for it. */
export interface WriteTarget {
  readonly fd?: number;
  readonly next?: BigInt64Array<SharedArrayBuffer>;
}

export interface WorkerSetup {
  readonly clusterSize: number;
  readonly unitBytes: number;
  readonly expected: ExpectedUse;
  /** Digests are not needed when nothing records or checks them (image conversion). */
  readonly digests: boolean;
  readonly output: OutputSetup;
  /** URL of the module that exports `createClusterCodec`; the caller's room knows it, this one does not. */
  readonly codec: string;
  /** Control words and payload of requests to the main thread; see served-io.ts. */
  readonly shared: SharedArrayBuffer;
}

/** A unit and the byte sources it names for the first time. */
export interface WorkOrder {
  readonly units: readonly Unit[];
  /** Index → descriptor; undefined: ask the main thread. */
  readonly sources: readonly (readonly [index: number, fd: number | undefined])[];
}

/** A thread hears a setup, then orders (a flush may come between), then the end; and after that the next setup. */
export type ToWorker = { readonly setup: WorkerSetup } | { readonly order: WorkOrder } | { readonly flush: true } | { readonly end: true };

export type FromWorker =
  /** Units taken and settled (credits for new ones) and results that are complete. */
  | { readonly settled: number; readonly results: readonly UnitResult[] }
  | { readonly request: ServedRequest }
  | { readonly failed: WorkerFailure }
  | { readonly ended: true };

/** A read or write that the main thread does for a worker, which waits for it. */
export type ServedRequest =
  | { readonly op: 'read'; readonly source: number; readonly offset: number; readonly length: number }
  | { readonly op: 'append'; readonly length: number }
  | { readonly op: 'write'; readonly offset: number; readonly length: number };

export interface WorkerFailure {
  readonly op: 'read' | 'write' | 'expand' | 'digest' | 'other';
  readonly source?: number;
  /** Guest bytes where it happened. */
  readonly offset: number;
  readonly message: string;
  readonly systemCode?: string;
}
