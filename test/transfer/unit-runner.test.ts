// What a thread does with a unit, without threads: judged against what the unit says and what was expected.

import { describe, expect, it } from 'vitest';
import { loadBlake3 } from '../../src/plumbing/blake3.ts';
import { loadCrc32c } from '../../src/plumbing/crc32c.ts';
import { createClusterCodec } from '../../src/qcow2/cluster-codec.ts';
import { nonZeroRanges } from '../../src/transfer/non-zero-ranges.ts';
import { PackedRun } from '../../src/transfer/packed-run.ts';
import { CLUSTER, OUTCOME, type OutputSetup, type Unit, type UnitResult, type WorkerSetup } from '../../src/transfer/unit.ts';
import { UnitFailure, type UnitIo, UnitRunner } from '../../src/transfer/unit-runner.ts';
import { noiseBytes, randomNumbers, textBytes } from '../repository/model-disk.ts';

const blake3 = await loadBlake3();
const crc32c = loadCrc32c();
const codec = createClusterCodec();
const CS = 4096;
const random = randomNumbers(1);
const noise = noiseBytes(CS, random);
const text = textBytes(CS, random);
const zeros = Buffer.alloc(CS);
const digest = (bytes: Uint8Array): Uint8Array => blake3.hash(bytes);

interface Bench {
  readonly runner: UnitRunner;
  readonly appended: Buffer[];
  readonly written: { readonly offset: number; readonly bytes: Buffer }[];
}

function bench(
  bytes: Buffer,
  expected: WorkerSetup['expected'],
  output: OutputSetup = { kind: 'none' },
  change: Partial<UnitIo> = {},
): Bench {
  const appended: Buffer[] = [];
  const written: { offset: number; bytes: Buffer }[] = [];
  const io: UnitIo = {
    read: (_source, buffer, offset) => {
      if (offset + buffer.length > bytes.length) throw new Error('behind the end');
      buffer.set(bytes.subarray(offset, offset + buffer.length));
    },
    append: (buffers) => {
      const offset = 1_000_000 + appended.reduce((sum, part) => sum + part.length, 0);
      appended.push(Buffer.concat(buffers));
      return offset;
    },
    write: (buffers, offset) => {
      written.push({ offset, bytes: Buffer.concat(buffers) });
    },
    ...change,
  };
  const setup: WorkerSetup = {
    clusterSize: CS,
    unitBytes: 64 * CS,
    expected,
    digests: true,
    output,
    codec: '',
    shared: new SharedArrayBuffer(8),
  };
  return { runner: new UnitRunner(setup, io, { blake3, crc32c, codec }), appended, written };
}

const image = (compression: 'none' | 'zlib' | 'zstd'): OutputSetup => ({ kind: 'image', compression, level: 1, target: {} });
const disk = (skipZero: boolean): OutputSetup => ({ kind: 'disk', skipZero, target: {} });

function unitOf(length: number, pieces: readonly number[], change: Partial<Unit> = {}): Unit {
  return { seq: 0, offset: 10 * CS, length, pieces: Float64Array.from(pieces), ...change };
}

function expecting(clusters: readonly (Uint8Array | 'zero' | undefined)[], crcs?: readonly number[]): Partial<Unit> {
  const kinds = clusters.map((cluster) => (cluster === undefined ? CLUSTER.UNKNOWN : cluster === 'zero' ? CLUSTER.ZERO : CLUSTER.DATA));
  const digests = Buffer.concat(clusters.map((cluster) => (cluster instanceof Uint8Array ? digest(cluster) : Buffer.alloc(32, 0xee))));
  return { expectedKinds: Uint8Array.from(kinds), expectedDigests: digests, ...(crcs ? { expectedCrcs: Uint32Array.from(crcs) } : {}) };
}

function only(runner: UnitRunner): UnitResult {
  const results = runner.take();
  const [result] = results;
  if (!result || results.length !== 1) throw new Error(`${results.length} results`);
  return result;
}

/** A plain piece that covers `length` bytes from the start of the unit. */
const plain = (length: number): number[] => [0, length, 0, 0, 0, 0, 0];

describe('a unit into an image', () => {
  it('is zero, plain or compressed, cluster by cluster', () => {
    const bytes = Buffer.concat([noise, zeros, text, text, noise]);
    for (const compression of ['none', 'zlib', 'zstd'] as const) {
      const { runner, appended } = bench(bytes, 'ignore', image(compression));
      runner.run(unitOf(bytes.length, plain(bytes.length)));
      expect(runner.take().length).toBe(compression === 'none' ? 1 : 0);
      if (compression === 'none') continue;
      expect(runner.waiting).toBe(1);
      runner.flush();
      const result = only(runner);
      expect([...result.outcome]).toEqual([OUTCOME.PLAIN, OUTCOME.ZERO, OUTCOME.COMPRESSED, OUTCOME.COMPRESSED, OUTCOME.PLAIN]);
      expect([...result.hostOffsets].slice(0, 2)).toEqual([1_000_000, 0]);
      expect(result.hostOffsets[4]).toBe(1_000_000 + CS);
      expect(result.hostOffsets[2]).toBe(1_000_000 + 2 * CS);
      expect(result.hostOffsets[3]).toBe(1_000_000 + 2 * CS + (result.storedLengths[2] ?? 0));
      const [plains, packed] = appended;
      expect(plains?.equals(Buffer.concat([noise, noise]))).toBe(true);
      expect(packed?.length).toBe(CS);
      const expanded = Buffer.alloc(CS);
      const first = packed?.subarray(0, result.storedLengths[2] ?? 0) ?? Buffer.alloc(0);
      codec.decompress(compression, first, expanded);
      expect(expanded.equals(text)).toBe(true);
      expect(result.crcs[2]).toBe(crc32c(first));
      expect(result.bytesRead).toBe(bytes.length);
      expect(result.bytesWritten).toBe(2 * CS + (result.storedLengths[2] ?? 0) + (result.storedLengths[3] ?? 0));
      for (const index of [0, 2, 3, 4])
        expect(result.digests.subarray(index * 32, index * 32 + 32)).toEqual(
          Uint8Array.from(digest(bytes.subarray(index * CS, (index + 1) * CS))),
        );
      runner.flush();
      expect(appended.length).toBe(2);
    }
  });

  it('is compared with a parent: what is the same is left out', () => {
    const bytes = Buffer.concat([noise, text, zeros, text, noise]);
    const { runner } = bench(bytes, 'compare', image('none'));
    runner.run(unitOf(bytes.length, plain(bytes.length), expecting([noise, noise, 'zero', 'zero', undefined])));
    expect([...only(runner).outcome]).toEqual([OUTCOME.SAME, OUTCOME.PLAIN, OUTCOME.ZERO, OUTCOME.PLAIN, OUTCOME.PLAIN]);
  });

  it('reads what no piece covers as zeros, also after another unit', () => {
    const bytes = Buffer.concat([noise, noise, noise, noise]);
    const { runner, appended } = bench(bytes, 'ignore', image('none'));
    runner.run(unitOf(4 * CS, plain(4 * CS)));
    runner.run(unitOf(3 * CS + 5, [100, 50, 0, 7, 0, 0, 0, CS + 10, 10, 0, 0, 0, 0, 0, 3 * CS, 5, 0, 0, 0, 0, 0], { seq: 1 }));
    const truth = Buffer.alloc(4 * CS);
    noise.copy(truth, 100, 7, 57);
    noise.copy(truth, CS + 10, 0, 10);
    noise.copy(truth, 3 * CS, 0, 5);
    const [, second] = runner.take();
    expect([...(second?.outcome ?? [])]).toEqual([OUTCOME.PLAIN, OUTCOME.PLAIN, OUTCOME.ZERO, OUTCOME.PLAIN]);
    expect(appended[1]?.equals(Buffer.concat([truth.subarray(0, 2 * CS), truth.subarray(3 * CS)]))).toBe(true);
    runner.run(unitOf(CS, [], { seq: 2 }));
    expect([...only(runner).outcome]).toEqual([OUTCOME.ZERO]);
  });

  it('says what failed: a write, also of a packed run', () => {
    const full = Object.assign(new Error('no room'), { code: 'ENOSPC' });
    const append = (): never => {
      throw full;
    };
    const direct = bench(noise, 'ignore', image('none'), { append });
    expect(() => direct.runner.run(unitOf(CS, plain(CS)))).toThrow(
      expect.objectContaining({ name: 'UnitFailure', op: 'write', offset: 10 * CS, cause: full }),
    );
    const packed = bench(text, 'ignore', image('zstd'), { append });
    packed.runner.run(unitOf(CS, plain(CS)));
    expect(() => packed.runner.flush()).toThrow(
      expect.objectContaining({ name: 'UnitFailure', op: 'write', offset: 10 * CS, cause: full }),
    );
    expect(packed.runner.take()).toEqual([]);
  });
});

describe('a unit that is checked', () => {
  const bytes = Buffer.concat([noise, text, zeros, noise]);

  it('is as expected', () => {
    for (const expected of ['require', 'report'] as const) {
      const { runner } = bench(bytes, expected);
      runner.run(unitOf(bytes.length, plain(bytes.length), expecting([noise, text, 'zero', noise])));
      expect([...only(runner).outcome]).toEqual([OUTCOME.SAME, OUTCOME.SAME, OUTCOME.ZERO, OUTCOME.SAME]);
      runner.run(unitOf(bytes.length, plain(bytes.length), expecting([noise, text, undefined, noise])));
      expect(only(runner).outcome[2]).toBe(OUTCOME.ZERO);
    }
  });

  it('is not as expected: other data, zeros for data, data for zeros, data for nothing', () => {
    const wrong: [number, readonly (Uint8Array | 'zero' | undefined)[]][] = [
      [1, [noise, noise, 'zero', noise]],
      [2, [noise, text, text, noise]],
      [0, ['zero', text, 'zero', noise]],
      [3, [noise, text, 'zero', undefined]],
    ];
    for (const [cluster, clusters] of wrong) {
      const report = bench(bytes, 'report').runner;
      report.run(unitOf(bytes.length, plain(bytes.length), expecting(clusters)));
      const { outcome } = only(report);
      expect([...outcome.keys()].filter((index) => outcome[index] === OUTCOME.MISMATCH)).toEqual([cluster]);
      const require = bench(bytes, 'require', disk(true));
      const failure = expect.objectContaining({ op: 'digest', offset: (10 + cluster) * CS });
      expect(() => require.runner.run(unitOf(bytes.length, plain(bytes.length), expecting(clusters)))).toThrow(failure);
      expect(require.written).toEqual([]);
    }
    // Where nothing is said of the unit, nothing may be there.
    const silent = bench(noise, 'report').runner;
    silent.run(unitOf(CS, plain(CS)));
    expect([...only(silent).outcome]).toEqual([OUTCOME.MISMATCH]);
  });

  it('names only the clusters that cannot be read', () => {
    const many = Buffer.concat(Array.from({ length: 8 }, () => noise));
    const bad = (offset: number, length: number): boolean => offset < 5 * CS + 10 && offset + length > 3 * CS + 10;
    const { runner } = bench(
      many,
      'report',
      { kind: 'none' },
      {
        read: (_source, buffer, offset) => {
          if (bad(offset, buffer.length)) throw new Error(`bad sector at ${offset}`);
          buffer.set(many.subarray(offset, offset + buffer.length));
        },
      },
    );
    runner.run(unitOf(8 * CS, plain(8 * CS), expecting(Array.from({ length: 8 }, () => noise))));
    const result = only(runner);
    const { SAME, UNREADABLE } = OUTCOME;
    expect([...result.outcome]).toEqual([SAME, SAME, SAME, UNREADABLE, UNREADABLE, UNREADABLE, SAME, SAME]);
    expect(result.failure).toBe(`bad sector at ${3 * CS}`);
  });

  it('names a compressed cluster whose stored bytes changed, whatever they expand to', () => {
    const stored = Buffer.alloc(3 * CS);
    const lengths = [0, 1, 2].map((index) => codec.compressZstd(text, stored.subarray(index * CS, index * CS + CS), 1));
    const [length = 0] = lengths;
    const pieces = [0, 1, 2].flatMap((index) => [index * CS, CS, 0, index * CS, length, 2, CS]);
    const crcs = [0, 1, 2].map((index) => crc32c(stored.subarray(index * CS, index * CS + length)));
    const good = bench(stored, 'report').runner;
    good.run(unitOf(3 * CS, pieces, expecting([text, text, text], crcs)));
    expect([...only(good).outcome]).toEqual([OUTCOME.SAME, OUTCOME.SAME, OUTCOME.SAME]);
    // A byte behind the frame changes nothing that is read, and the CRC covers it: three more bytes of stored length.
    for (const at of [0, 4, 5, length - 1]) {
      const damaged = Buffer.from(stored);
      damaged.writeUInt8(damaged.readUInt8(CS + at) ^ 1, CS + at);
      const report = bench(damaged, 'report').runner;
      report.run(unitOf(3 * CS, pieces, expecting([text, text, text], crcs)));
      const result = only(report);
      expect([...result.outcome]).toEqual([OUTCOME.SAME, OUTCOME.UNREADABLE, OUTCOME.SAME]);
      expect(result.failure).toContain('CRC32C');
      const require = bench(damaged, 'require', disk(true)).runner;
      expect(() => require.run(unitOf(3 * CS, pieces, expecting([text, text, text], crcs)))).toThrow(
        expect.objectContaining({ op: 'digest', offset: 11 * CS, source: 0 }),
      );
    }
    // Without CRCs (a source) a damaged stream is one that does not expand.
    const broken = Buffer.from(stored);
    broken.fill(0, CS, CS + 4);
    const source = bench(broken, 'ignore', image('none')).runner;
    expect(() => source.run(unitOf(3 * CS, pieces))).toThrow(expect.objectContaining({ op: 'expand', offset: 11 * CS }));
    const recorded = bench(stored, 'report').runner;
    recorded.run(unitOf(3 * CS, pieces, expecting([text, text, text], [crcs[0] ?? 0, 0, crcs[2] ?? 0])));
    expect([...only(recorded).outcome], 'a stream where the record has none').toEqual([OUTCOME.SAME, OUTCOME.UNREADABLE, OUTCOME.SAME]);
  });

  it('expands a cluster that is larger than the part that counts', () => {
    const stored = Buffer.alloc(CS);
    const length = codec.compressZlib(text, stored, 1);
    const { runner } = bench(stored, 'require');
    const cut = Buffer.concat([text.subarray(0, 100), Buffer.alloc(CS - 100)]);
    runner.run(unitOf(100, [0, 100, 0, 0, length, 1, CS], expecting([cut], [crc32c(stored.subarray(0, length))])));
    expect([...only(runner).outcome]).toEqual([OUTCOME.SAME]);
  });
});

describe('a unit onto a disk', () => {
  it('is written where there is data, and zeros too where the target may hold something', () => {
    const bytes = Buffer.concat([noise, zeros, text, zeros, noise.subarray(0, 300)]);
    const skipping = bench(bytes, 'ignore', disk(true));
    skipping.runner.run(unitOf(bytes.length, plain(bytes.length)));
    expect(skipping.written.map(({ offset, bytes: part }) => [offset, part.length])).toEqual([
      [10 * CS, CS],
      [12 * CS, CS],
      [14 * CS, 300],
    ]);
    expect(only(skipping.runner).bytesWritten).toBe(2 * CS + 300);
    const filling = bench(bytes, 'ignore', disk(false));
    filling.runner.run(unitOf(bytes.length, plain(bytes.length)));
    expect(filling.written.length).toBe(1);
    expect(filling.written[0]?.bytes.equals(bytes)).toBe(true);
  });

  it('leaves holes inside of a cluster too, block by block', () => {
    const block = 4096;
    const unit = Buffer.alloc(16 * block);
    for (const at of [1, 2, 5, 15]) unit.fill(7, at * block, (at + 1) * block);
    unit[block] = 0;
    unit.fill(0, 5 * block, 6 * block - 1);
    expect(nonZeroRanges(unit, 0, unit.length)).toEqual([
      [block, 3 * block],
      [5 * block, 6 * block],
      [15 * block, 16 * block],
    ]);
    expect(nonZeroRanges(unit, 2 * block, 5 * block + 100)).toEqual([[2 * block, 3 * block]]);
    expect(nonZeroRanges(unit, 15 * block, 15 * block + 300)).toEqual([[15 * block, 15 * block + 300]]);
    expect(nonZeroRanges(unit, 6 * block, 6 * block)).toEqual([]);
  });

  it('says where a write failed', () => {
    const write = (): never => {
      throw new Error('gone');
    };
    const { runner } = bench(Buffer.concat([zeros, noise]), 'ignore', disk(true), { write });
    expect(() => runner.run(unitOf(2 * CS, plain(2 * CS)))).toThrow(UnitFailure);
    expect(() => runner.run(unitOf(2 * CS, plain(2 * CS)))).toThrow(expect.objectContaining({ op: 'write', offset: 11 * CS }));
  });
});

describe('a packed run', () => {
  it('is written when the next cluster might not fit, and says where everything went', () => {
    const runs: Buffer[] = [];
    let base = 0;
    const pack = new PackedRun(CS, (buffers) => {
      const run = Buffer.concat(buffers);
      runs.push(run);
      base += run.length;
      return base - run.length;
    });
    expect(pack.pending).toBe(false);
    pack.flush();
    expect(runs).toEqual([]);
    const lengths = Array.from({ length: 900 }, () => 1 + random(CS - 1));
    const places: number[] = [];
    for (const [index, length] of lengths.entries()) {
      const room = pack.room(CS);
      expect(room.length).toBe(CS);
      room.fill(1 + (index % 255), 0, length);
      // What lies behind the taken bytes is overwritten or zero in the end.
      room.fill(0xaa, length);
      pack.commit(length, (offset) => {
        places[index] = offset;
      });
    }
    pack.flush();
    expect(pack.pending).toBe(false);
    const all = Buffer.concat(runs);
    expect(runs.every((run) => run.length % CS === 0 && run.length <= 1 << 20)).toBe(true);
    expect(all.length).toBeLessThan(lengths.reduce((sum, length) => sum + length, 0) + runs.length * CS);
    for (const [index, length] of lengths.entries()) {
      const at = places[index] ?? -1;
      expect(all.subarray(at, at + length).equals(Buffer.alloc(length, 1 + (index % 255)))).toBe(true);
      all.fill(0, at, at + length);
    }
    expect(all.equals(Buffer.alloc(all.length))).toBe(true);
  });
});
