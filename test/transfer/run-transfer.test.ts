// The copy engine with real worker threads: order, places in the image, faults on every side, cancellation.

import { ftruncateSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { loadBlake3 } from '../../src/plumbing/blake3.ts';
import { loadCrc32c } from '../../src/plumbing/crc32c.ts';
import { openFileSource } from '../../src/plumbing/file-source.ts';
import { createClusterCodec } from '../../src/qcow2/cluster-codec.ts';
import { NOTHING_EXPECTED } from '../../src/transfer/expected-view.ts';
import { planUnits, SourceTable } from '../../src/transfer/plan-units.ts';
import { OUTCOME, type Unit, type UnitResult } from '../../src/transfer/unit.ts';
import { bytesSource, changeDisk, noiseBytes, randomNumbers, textBytes } from '../repository/model-disk.ts';
import { scratchFolder } from '../repository/scratch-folder.ts';
import { directSink, openFd, ReportedFailure, run, servedSink, sourceList } from './transfer-parts.ts';

const scratch = scratchFolder();
const MIB = 1 << 20;
const KIB = 1024;
const blake3 = await loadBlake3();
const crc32c = loadCrc32c();

/** A unit of one plain piece of source 0. */
function plainUnit(seq: number, length = MIB, source = 0): Unit {
  return { seq, offset: seq * MIB, length, pieces: Float64Array.from([0, length, source, seq * MIB, 0, 0, 0]) };
}

function manyUnits(count: number, length = MIB, source = 0): Unit[] {
  return Array.from({ length: count }, (_, seq) => plainUnit(seq, length, source));
}

function planned(
  disk: Buffer,
  clusterSize: number,
  sources: SourceTable,
  path?: Awaited<ReturnType<typeof openFileSource>>,
): AsyncGenerator<Unit> {
  const reader = openRawReader(path ?? bytesSource(disk));
  return planUnits({ reader, clusterSize, unitBytes: Math.max(MIB, clusterSize), view: NOTHING_EXPECTED, expected: 'ignore', sources });
}

/** Puts a disk together again from what the results say lies in the image, and checks every digest and CRC. */
function readBack(size: number, clusterSize: number, results: readonly UnitResult[], image: Buffer, compression: 'zlib' | 'zstd'): Buffer {
  const codec = createClusterCodec();
  const disk = Buffer.alloc(Math.ceil(size / clusterSize) * clusterSize);
  for (const result of results) {
    for (const [index, outcome] of result.outcome.entries()) {
      const cluster = disk.subarray(result.offset + index * clusterSize, result.offset + (index + 1) * clusterSize);
      const at = result.hostOffsets[index] ?? 0;
      if (outcome === OUTCOME.PLAIN) {
        expect(at % clusterSize).toBe(0);
        image.copy(cluster, 0, at, at + clusterSize);
      } else if (outcome === OUTCOME.COMPRESSED) {
        const stored = image.subarray(at, at + (result.storedLengths[index] ?? 0));
        expect(crc32c(stored)).toBe(result.crcs[index]);
        codec.decompress(compression, stored, cluster);
      } else {
        expect(outcome).toBe(OUTCOME.ZERO);
        continue;
      }
      expect(Buffer.from(blake3.hash(cluster)).equals(result.digests.subarray(index * 32, index * 32 + 32))).toBe(true);
    }
  }
  return disk.subarray(0, size);
}

describe('a transfer into an image', () => {
  it.each([
    { threads: 1, clusterSize: 512, size: 3 * MIB + 77, compression: 'zstd', served: false },
    { threads: 3, clusterSize: 4096, size: 20 * MIB + 1, compression: 'zstd', served: false },
    { threads: 2, clusterSize: 65_536, size: 30 * MIB, compression: 'none', served: false },
    { threads: 5, clusterSize: 65_536, size: 30 * MIB + 511, compression: 'zlib', served: true },
    { threads: 2, clusterSize: 2 * MIB, size: 17 * MIB, compression: 'zstd', served: true },
    { threads: 2, clusterSize: 2 * MIB, size: 17 * MIB, compression: 'none', served: true },
    { threads: 8, clusterSize: 65_536, size: 100, compression: 'none', served: false },
    { threads: 2, clusterSize: 65_536, size: 0, compression: 'none', served: false },
  ] as const)('keeps order and places: $threads threads, clusters of $clusterSize, $compression, served $served', async (shape) => {
    const { threads, clusterSize, size, compression, served } = shape;
    const random = randomNumbers(size + threads);
    const disk = Buffer.alloc(size);
    changeDisk(disk, 60, 64 * KIB, random);
    const path = scratch('source');
    writeFileSync(path, disk);
    const source = await openFileSource(path);
    const sources = new SourceTable();
    const start = 3 * clusterSize;
    const target = served ? servedSink(start) : directSink(scratch('image'), start);
    const { results, settled } = await run(planned(disk, clusterSize, sources, served ? undefined : source), {
      clusterSize,
      threads,
      sources,
      output: { kind: 'image', sink: target.sink, compression, level: 1 },
    });
    await source.close();
    expect(results.map((result) => result.seq)).toEqual(results.map((_, index) => index));
    expect(results.map((result) => result.offset)).toEqual(results.map((result) => result.offset).toSorted((a, b) => a - b));
    // What is settled is final: nothing that comes later may lie in front of it.
    for (const [index, below] of settled.entries()) {
      const later = results.slice(index + 1).flatMap((result) => [...result.hostOffsets].filter((_, at) => isStored(result.outcome[at])));
      expect(later.every((offset) => offset >= below)).toBe(true);
    }
    expect(settled).toEqual(settled.toSorted((a, b) => a - b));
    const image = target.bytes();
    expect(readBack(size, clusterSize, results, image, compression === 'none' ? 'zstd' : compression).equals(disk)).toBe(true);
    if (results.length > 0) expect(image.length % clusterSize).toBe(0);
  });

  function isStored(outcome: number | undefined): boolean {
    return outcome === OUTCOME.PLAIN || outcome === OUTCOME.COMPRESSED;
  }

  it('packs compressed clusters into runs that begin with a cluster and are zero behind their end', async () => {
    const clusterSize = 4096;
    const random = randomNumbers(3);
    const disk = Buffer.concat(Array.from({ length: 600 }, () => textBytes(clusterSize, random)));
    const sources = new SourceTable();
    const target = directSink(scratch('packed'), clusterSize);
    const { results } = await run(planned(disk, clusterSize, sources), {
      clusterSize,
      threads: 2,
      sources,
      output: { kind: 'image', sink: target.sink, compression: 'zstd', level: 1 },
    });
    const image = target.bytes();
    expect(image.length % clusterSize).toBe(0);
    expect(image.length).toBeLessThan(disk.length / 10);
    const used = Buffer.from(image);
    for (const result of results) {
      for (const [index, at] of result.hostOffsets.entries()) used.fill(0, at, at + (result.storedLengths[index] ?? 0));
    }
    expect(used.every((byte) => byte === 0)).toBe(true);
  });

  it('does not stand still when a slow thread holds the oldest result in a run that does not fill', async () => {
    // One thread is held up in its first unit until the other has run as far ahead as it may.
    const clusterSize = 65_536;
    const count = 3000;
    const text = textBytes(clusterSize, randomNumbers(1));
    let served = 0;
    let release: (() => void) | undefined;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    const target = servedSink(clusterSize);
    const { results } = await run(manyUnits(count, clusterSize, -1), {
      clusterSize,
      threads: 2,
      output: { kind: 'image', sink: target.sink, compression: 'zstd', level: 1 },
      disk: {
        read: async (buffer, offset) => {
          served++;
          if (served >= 2000) release?.();
          if (offset === 4 * MIB) await Promise.race([released, delay(10_000)]);
          buffer.set(text);
        },
      },
    });
    expect(results.length).toBe(count);
  }, 30_000);
});

describe('a transfer that fails', () => {
  async function failureOf(promise: Promise<unknown>): Promise<unknown> {
    return promise.then(
      () => 'it did not fail',
      (error: unknown) => error,
    );
  }

  it('in a read of a thread: says where, and the code of the system', async () => {
    const folder = { ...bytesSource(Buffer.alloc(10 * MIB)), fd: openFd('/tmp', 'r') };
    const error = await failureOf(run(manyUnits(10), { clusterSize: 65_536, sources: sourceList(folder) }));
    expect(error).toBeInstanceOf(ReportedFailure);
    expect(error).toMatchObject({ failure: { op: 'read', source: 0, systemCode: 'EISDIR' } });
  });

  it('where the source ends too early', async () => {
    const path = scratch('short');
    writeFileSync(path, noiseBytes(10 * MIB, randomNumbers(1)));
    const fd = openFd(path, 'r+');
    ftruncateSync(fd, 7 * MIB + 5);
    const source = { ...bytesSource(Buffer.alloc(10 * MIB)), fd };
    const error = await failureOf(run(manyUnits(10), { clusterSize: 65_536, threads: 1, sources: sourceList(source) }));
    expect(error).toMatchObject({ failure: { op: 'read', source: 0, message: `the source ends at byte ${7 * MIB + 5}` } });
    expect(error).not.toHaveProperty('failure.systemCode');
  });

  it.each(['none', 'zlib', 'zstd'] as const)('where the target is full, compression %s', async (compression) => {
    const source = bytesSource(textBytes(40 * MIB, randomNumbers(2)));
    const fd = openFd('/dev/full', 'w');
    const target = directSink(scratch('full'), 0);
    const sink = { ...target.sink, direct: { fd, next: target.next, fail: async (error: unknown) => error } };
    for (const count of [1, 40]) {
      const error = await failureOf(
        run(manyUnits(count), { clusterSize: 65_536, sources: sourceList(source), output: { kind: 'image', sink, compression, level: 1 } }),
      );
      expect(error).toMatchObject({ failure: { op: 'write', systemCode: 'ENOSPC' } });
    }
  });

  it('where a disk cannot be written', async () => {
    const writer = {
      name: 'full',
      fd: openFd('/dev/full', 'w'),
      startsZero: true,
      write: never,
      zero: never,
      explain: (error: unknown) => error,
      finish: never,
      abort: never,
    };
    const source = bytesSource(noiseBytes(4 * MIB, randomNumbers(2)));
    const error = await failureOf(
      run(manyUnits(4), { clusterSize: 65_536, sources: sourceList(source), output: { kind: 'disk', writer } }),
    );
    expect(error).toMatchObject({ failure: { op: 'write', systemCode: 'ENOSPC' } });
  });

  const never = async (): Promise<never> => {
    throw new Error('not asked for');
  };

  it.each(['read', 'append', 'write'] as const)('in a %s that the main thread serves: the very error comes out', async (what) => {
    const trouble = new Error(`no ${what}`);
    const fail = async (): Promise<never> => {
      await delay(1);
      throw trouble;
    };
    const good = bytesSource(noiseBytes(8 * MIB, randomNumbers(3)));
    const source = what === 'read' ? { ...good, read: fail } : good;
    const writer = {
      name: 'w',
      startsZero: true,
      write: fail,
      zero: never,
      explain: (error: unknown) => error,
      finish: never,
      abort: never,
    };
    const output =
      what === 'write'
        ? ({ kind: 'disk', writer } as const)
        : ({ kind: 'image', sink: servedSink(0, what === 'append' ? { append: fail } : {}).sink, compression: 'none', level: 1 } as const);
    for (const threads of [1, 4]) {
      expect(await failureOf(run(manyUnits(8), { clusterSize: 65_536, threads, sources: sourceList(source), output }))).toBe(trouble);
    }
  });

  it('where a served append fails while compressed clusters are packed', async () => {
    const trouble = new Error('no append');
    const { sink } = servedSink(0, {
      append: async () => {
        throw trouble;
      },
    });
    const sources = sourceList(bytesSource(textBytes(8 * MIB, randomNumbers(3))));
    expect(
      await failureOf(run(manyUnits(8), { clusterSize: 65_536, sources, output: { kind: 'image', sink, compression: 'zstd', level: 1 } })),
    ).toBe(trouble);
  });

  it('in who takes the results, or who plans: that error comes out, and nothing is taken after it', async () => {
    const trouble = new Error('cannot go on');
    const sources = sourceList(bytesSource(noiseBytes(64 * MIB, randomNumbers(4))));
    let taken = 0;
    const consume = async (result: UnitResult): Promise<void> => {
      await delay(1);
      taken++;
      if (result.seq === 5) throw trouble;
    };
    expect(await failureOf(run(manyUnits(64), { clusterSize: 65_536, sources, consume }))).toBe(trouble);
    expect(taken).toBe(6);
    await delay(50);
    expect(taken).toBe(6);
    async function* badPlan(): AsyncGenerator<Unit> {
      yield* manyUnits(20);
      throw trouble;
    }
    expect(await failureOf(run(badPlan(), { clusterSize: 65_536, sources }))).toBe(trouble);
  });

  it('with a source that nobody knows, or a codec that is not there', async () => {
    expect(await failureOf(run(manyUnits(1), { clusterSize: 65_536 }))).toMatchObject({ code: 'INTERNAL' });
    const sources = sourceList(bytesSource(textBytes(MIB, randomNumbers(4))));
    const { sink } = servedSink(0);
    const output = { kind: 'image', sink, compression: 'zstd', level: 1 } as const;
    const error = await failureOf(run(manyUnits(1), { clusterSize: 65_536, sources, output, codec: 'file:///nowhere/codec.ts' }));
    expect(error).toMatchObject({ failure: { op: 'other', systemCode: 'MODULE_NOT_FOUND' } });
  });

  it('when it is cancelled: before it begins, in the middle, while a read hangs', async () => {
    const bytes = noiseBytes(64 * MIB, randomNumbers(5));
    const path = scratch('cancelled');
    writeFileSync(path, bytes);
    const fd = openFd(path, 'r');
    const sources = sourceList({ ...bytesSource(bytes), fd });
    const cancelled = { clusterSize: 65_536, sources, signal: AbortSignal.abort() };
    expect(await failureOf(run(manyUnits(64), cancelled))).toMatchObject({ code: 'CANCELLED' });

    const controller = new AbortController();
    const target = directSink(scratch('cancelled-image'), 0);
    let taken = 0;
    const consume = (): void => {
      taken++;
      if (taken === 3) controller.abort();
    };
    const output = { kind: 'image', sink: target.sink, compression: 'none', level: 1 } as const;
    const options = { clusterSize: 65_536, sources, output, consume, signal: controller.signal };
    expect(await failureOf(run(manyUnits(64), options))).toMatchObject({ code: 'CANCELLED' });
    expect(taken).toBe(3);
    // No thread writes any more: its descriptor may be that of another file now.
    const reached = target.bytes().length;
    await delay(50);
    expect(target.bytes().length).toBe(reached);

    const hanging = new AbortController();
    setTimeout(() => hanging.abort(new Error('enough')), 30);
    const source = { ...bytesSource(bytes), read: () => delay(300) };
    const error = await failureOf(run(manyUnits(8), { clusterSize: 65_536, sources: sourceList(source), signal: hanging.signal }));
    expect(error).toMatchObject({ code: 'CANCELLED', cause: { message: 'enough' } });
  });

  it('and the next transfer in the same process is not touched by it', async () => {
    const bytes = noiseBytes(16 * MIB, randomNumbers(6));
    const good = sourceList(bytesSource(bytes));
    const bad = sourceList({ ...bytesSource(bytes), fd: openFd('/tmp', 'r') });
    for (let round = 0; round < 4; round++) {
      const failing = failureOf(run(manyUnits(16), { clusterSize: 65_536, sources: bad }));
      const { results } = await run(manyUnits(16), { clusterSize: 65_536, sources: good });
      expect(results.map((result) => result.seq)).toEqual(Array.from({ length: 16 }, (_, seq) => seq));
      expect(await failing).toBeInstanceOf(ReportedFailure);
    }
  });
});
