// The parts of a transfer for tests: units written by hand or planned, sinks that are files or fail, and what a run answered.

import { closeSync, openSync, readFileSync, rmSync } from 'node:fs';
import { afterEach } from 'vitest';
import type { DiskReader } from '../../src/disk/disk-reader.ts';
import type { ByteSink } from '../../src/plumbing/byte-sink.ts';
import type { ByteSource } from '../../src/plumbing/byte-source.ts';
import { CLUSTER_CODEC_URL } from '../../src/qcow2/cluster-codec-url.ts';
import { type ExpectedView, RANGE_CLUSTERS } from '../../src/transfer/expected-view.ts';
import { runTransfer, type TransferOptions } from '../../src/transfer/run-transfer.ts';
import { CLUSTER, type Unit, type UnitResult, type WorkerFailure } from '../../src/transfer/unit.ts';

/** A failure as a worker tells it, thrown so that a test can look at it. */
export class ReportedFailure extends Error {
  readonly failure: WorkerFailure;

  constructor(failure: WorkerFailure) {
    super(`${failure.op} at ${failure.offset}: ${failure.message}`);
    this.failure = failure;
  }
}

export interface Ran {
  readonly results: UnitResult[];
  /** With each result: what was settled when it came. */
  readonly settled: number[];
}

/** Runs a transfer with everything that is not given left out; results are checked to come in order. */
export async function run(
  units: AsyncIterable<Unit> | readonly Unit[],
  change: Partial<TransferOptions> & { readonly clusterSize: number },
): Promise<Ran> {
  const ran: Ran = { results: [], settled: [] };
  await runTransfer(iterate(units), {
    codec: CLUSTER_CODEC_URL,
    expected: 'ignore',
    digests: true,
    output: { kind: 'none' },
    disk: {
      read: async () => {
        throw new Error('nobody said how to read the disk');
      },
    },
    sources: { at: () => undefined },
    explain: (failure) => new ReportedFailure(failure),
    consume: (result, settledBelow) => {
      ran.results.push(result);
      ran.settled.push(settledBelow);
    },
    ...change,
  });
  return ran;
}

async function* iterate(units: AsyncIterable<Unit> | readonly Unit[]): AsyncGenerator<Unit> {
  yield* units;
}

/** Sources by index, as units name them. */
export function sourceList(...sources: readonly ByteSource[]): { at(index: number): ByteSource | undefined } {
  return { at: (index) => sources[index] };
}

const opened = new Set<number>();
afterEach(() => {
  for (const fd of opened) closeSync(fd);
  opened.clear();
});

/** A descriptor that is closed after the test. */
export function openFd(path: string, flags: string): number {
  const fd = openSync(path, flags);
  opened.add(fd);
  return fd;
}

export interface FileSink {
  readonly sink: ByteSink;
  readonly next: BigInt64Array<SharedArrayBuffer>;
  bytes(): Buffer;
  readonly failures: unknown[];
}

/** A file that workers append to by themselves, from `start` on. */
export function directSink(path: string, start: number): FileSink {
  rmSync(path, { force: true });
  const fd = openFd(path, 'wx+');
  const next = new BigInt64Array(new SharedArrayBuffer(8));
  next[0] = BigInt(start);
  const failures: unknown[] = [];
  const fail = async (error: unknown): Promise<unknown> => {
    failures.push(error);
    return error;
  };
  const refuse = async (): Promise<never> => {
    throw new Error('everything goes through the descriptor');
  };
  return {
    sink: { name: path, direct: { fd, next, fail }, append: refuse, finish: refuse, abort: async () => undefined },
    next,
    bytes: () => readFileSync(path),
    failures,
  };
}

/** A sink without a descriptor: the main thread appends for the workers. */
export function servedSink(start: number, change: Partial<ByteSink> = {}): { readonly sink: ByteSink; bytes(): Buffer } {
  const parts: Buffer[] = [Buffer.alloc(start)];
  const sink: ByteSink = {
    name: 'served',
    append: async (buffers) => {
      const offset = parts.reduce((sum, part) => sum + part.length, 0);
      // A copy at once, as a store would send it: the caller may use its memory again when the promise is done.
      parts.push(Buffer.concat(buffers));
      return offset;
    },
    finish: async () => ({ size: 0 }),
    abort: async () => undefined,
    ...change,
  };
  return { sink, bytes: () => Buffer.concat(parts) };
}

/** A disk whose extents are given. */
export function diskOf(size: number, extents: DiskReader['extents'], read: DiskReader['read'] = async () => undefined): DiskReader {
  return { size, name: 'a disk of a test', extents, read, close: async () => undefined };
}

/** What is expected of the first clusters of a disk: a digest, or zeros, or nothing. */
export function viewOf(
  clusters: readonly (Uint8Array | 'zero' | undefined)[],
  stored: readonly { length: number; crc: number }[] = [],
): ExpectedView {
  return {
    range: async (index) => {
      const part = clusters.slice(index * RANGE_CLUSTERS, (index + 1) * RANGE_CLUSTERS);
      if (part.every((cluster) => cluster === undefined)) return undefined;
      const at = (cluster: number) => stored[index * RANGE_CLUSTERS + cluster];
      const kinds = new Uint8Array(RANGE_CLUSTERS);
      part.forEach((cluster, local) => {
        if (cluster !== undefined) kinds[local] = cluster === 'zero' ? CLUSTER.ZERO : CLUSTER.DATA;
      });
      return {
        kinds,
        digests: (first, last) => {
          const digests = new Uint8Array((last - first) * 32);
          part.slice(first, last).forEach((cluster, local) => {
            if (cluster instanceof Uint8Array) digests.set(cluster, local * 32);
          });
          return digests;
        },
        crcs: (first, last) => Uint32Array.from({ length: last - first }, (_, local) => at(first + local)?.crc ?? 0),
        storedLength: (cluster) => at(cluster)?.length ?? 0,
      };
    },
  };
}
