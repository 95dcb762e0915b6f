// Copies of disks: to targets that begin as zeros and to such that do not, to images, and the comparison of two disks.

import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { DiskReader } from '../../src/disk/disk-reader.ts';
import type { DiskWriter } from '../../src/disk/disk-writer.ts';
import { createFileWriter } from '../../src/disk/file-writer.ts';
import { overlay } from '../../src/disk/overlay.ts';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { openWriterSink } from '../../src/disk/writer-sink.ts';
import { loadBlake3 } from '../../src/plumbing/blake3.ts';
import { openFileSource } from '../../src/plumbing/file-source.ts';
import { CLUSTER_CODEC_URL } from '../../src/qcow2/cluster-codec-url.ts';
import { openQcow2 } from '../../src/qcow2/image.ts';
import { ImageBuilder } from '../../src/qcow2/image-builder.ts';
import { planLayout } from '../../src/qcow2/image-layout.ts';
import { compareDisks } from '../../src/transfer/compare-disks.ts';
import { type CopyOptions, copyToDisk } from '../../src/transfer/copy-to-disk.ts';
import { copyToImage } from '../../src/transfer/copy-to-image.ts';
import { qemuCheck, qemuImg } from '../qcow2/qemu-tools.ts';
import { bytesSource, changeDisk, noiseBytes, opaqueDisk, randomNumbers, writeDisk } from '../repository/model-disk.ts';
import { scratchFolder } from '../repository/scratch-folder.ts';
import { diskOf, openFd, ReportedFailure, viewOf } from './transfer-parts.ts';

const scratch = scratchFolder();
const MIB = 1 << 20;
const CS = 65_536;
const blake3 = await loadBlake3();

const options: CopyOptions = { clusterSize: CS, codec: CLUSTER_CODEC_URL, explain: (failure) => new ReportedFailure(failure) };

function makeDisk(size: number, seed: number): Buffer {
  const disk = Buffer.alloc(size);
  changeDisk(disk, 25, CS, randomNumbers(seed));
  return disk;
}

interface MemoryTarget {
  readonly writer: DiskWriter;
  readonly bytes: Buffer;
  readonly calls: string[];
}

/** A target that holds something before, without a descriptor. */
function memoryTarget(size: number, change: Partial<DiskWriter> = {}): MemoryTarget {
  const bytes = Buffer.alloc(size, 0xdd);
  const calls: string[] = [];
  const writer: DiskWriter = {
    name: 'memory',
    startsZero: false,
    write: async (buffer, offset) => {
      expect(offset + buffer.length).toBeLessThanOrEqual(size);
      bytes.set(buffer, offset);
    },
    zero: async (offset, length) => {
      expect(offset + length).toBeLessThanOrEqual(size);
      bytes.fill(0, offset, offset + length);
    },
    explain: (error) => error,
    finish: async () => {
      calls.push('finish');
    },
    abort: async () => {
      calls.push('abort');
    },
    ...change,
  };
  return { writer, bytes, calls };
}

describe('a copy to a disk', () => {
  it.each([0, 1, 513, CS, 3 * MIB, 40 * MIB + 777])('of %i bytes overwrites everything on a target that held something', async (size) => {
    const disk = makeDisk(size, size);
    const readers = [openRawReader(bytesSource(disk)), opaqueDisk(disk, 70_000)];
    const path = scratch(`source-${size}`);
    writeDisk(path, disk, true);
    readers.push(openRawReader(await openFileSource(path)));
    for (const reader of readers) {
      const target = memoryTarget(size);
      const progress: number[] = [];
      const copied = await copyToDisk(reader, target.writer, { ...options, onProgress: (done) => progress.push(done) });
      expect(target.bytes.equals(disk)).toBe(true);
      expect(target.calls).toEqual(['finish']);
      expect(copied.bytesRead).toBeLessThanOrEqual(size);
      expect(progress.at(-1)).toBe(size);
      expect(progress).toEqual(progress.toSorted((a, b) => a - b));
      await reader.close();
    }
  });

  it('leaves holes where a new file needs nothing', async () => {
    const size = 200 * MIB;
    const path = scratch('sparse-source');
    const disk = Buffer.alloc(size);
    disk.set(noiseBytes(MIB, randomNumbers(1)), 77 * MIB + 5);
    writeDisk(path, disk, true);
    const reader = openRawReader(await openFileSource(path));
    const copied = await copyToDisk(reader, await createFileWriter(scratch('sparse-copy'), { size, replace: false }), options);
    await reader.close();
    expect(readFileSync(scratch('sparse-copy')).equals(disk)).toBe(true);
    expect(statSync(scratch('sparse-copy')).blocks * 512).toBeLessThan(2 * MIB);
    expect(copied.bytesRead).toBeLessThan(2 * MIB);
    expect(copied.bytesWritten).toBeLessThan(2 * MIB);
  });

  it('gives the target back when anything fails', async () => {
    const disk = noiseBytes(5 * MIB, randomNumbers(2));
    const reader = openRawReader(bytesSource(disk));
    const trouble = new Error('trouble');
    const fail = async (): Promise<never> => {
      throw trouble;
    };
    const failing: [string, DiskReader, Partial<DiskWriter>][] = [
      ['write', reader, { write: fail }],
      ['zero', openRawReader(bytesSource(Buffer.alloc(5 * MIB))), { zero: fail }],
      ['finish', reader, { finish: fail }],
      ['read', { ...reader, ...opaqueDisk(disk), read: fail }, {}],
      [
        'extents',
        diskOf(5 * MIB, () => {
          throw trouble;
        }),
        {},
      ],
    ];
    for (const [what, source, change] of failing) {
      const target = memoryTarget(5 * MIB, change);
      const from = what === 'zero' ? diskOf(5 * MIB, async function* () {}) : source;
      await expect(copyToDisk(from, target.writer, options), what).rejects.toBe(trouble);
      expect(target.calls, what).toEqual(['abort']);
    }
    const target = memoryTarget(5 * MIB);
    await expect(copyToDisk(reader, target.writer, { ...options, signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'CANCELLED',
    });
    expect(target.calls).toEqual(['abort']);
  });

  it('asks the target what a failed write of a thread means', async () => {
    const explained: unknown[] = [];
    const trouble = new Error('the target is full');
    const explain = (error: unknown): unknown => {
      explained.push(error);
      return trouble;
    };
    const target = memoryTarget(MIB, { fd: openFd('/dev/full', 'w'), explain });
    await expect(copyToDisk(openRawReader(bytesSource(noiseBytes(MIB, randomNumbers(3)))), target.writer, options)).rejects.toBe(trouble);
    expect(explained).toMatchObject([{ code: 'ENOSPC' }]);
    expect(target.calls).toEqual(['abort']);
  });

  it('checks every cluster against the record, and writes nothing that is not recorded', async () => {
    const disk = noiseBytes(3 * CS + 100, randomNumbers(4));
    const clusters = [0, 1, 2, 3].map((index) => {
      const cluster = Buffer.alloc(CS);
      disk.copy(cluster, 0, index * CS);
      return blake3.hash(cluster);
    });
    const good = memoryTarget(disk.length);
    await copyToDisk(openRawReader(bytesSource(disk)), good.writer, { ...options, view: viewOf(clusters) });
    expect(good.bytes.equals(disk)).toBe(true);
    for (const wrong of [0, 2, 3]) {
      const changed = Buffer.from(disk);
      changed.writeUInt8(changed.readUInt8(wrong * CS + 50) ^ 1, wrong * CS + 50);
      const target = memoryTarget(disk.length);
      const error = await copyToDisk(openRawReader(bytesSource(changed)), target.writer, { ...options, view: viewOf(clusters) }).catch(
        (failure: unknown) => failure,
      );
      expect(error).toMatchObject({ failure: { op: 'digest', offset: wrong * CS } });
      expect(target.calls).toEqual(['abort']);
    }
    // What nobody recorded is not given out as data: a range without a record reads as zeros.
    const target = memoryTarget(disk.length);
    await copyToDisk(openRawReader(bytesSource(disk)), target.writer, { ...options, view: viewOf([]) });
    expect(target.bytes.equals(Buffer.alloc(disk.length))).toBe(true);
  });
});

describe('a copy to an image', () => {
  it.each([
    ['none', 512, 300_000],
    ['zlib', 512, 9 * MIB + 512],
    ['zstd', 4096, 3 * MIB],
    ['zlib', CS, 40 * MIB + 1],
    ['zstd', CS, 40 * MIB + 513],
    ['zstd', 2 * MIB, 11 * MIB],
    ['none', 2 * MIB, 1],
    ['none', CS, 0],
  ] as const)(
    'compression %s, clusters of %i, %i bytes, is one that qemu-img calls clean and equal',
    async (compression, clusterSize, size) => {
      const path = scratch(`image-${compression}-${clusterSize}-${size}`);
      const disk = makeDisk(size, size + 1);
      const reader = openRawReader(bytesSource(disk));
      const layout = planLayout(size, clusterSize);
      const sink = openWriterSink(await createFileWriter(path, { size: 0, replace: false }), layout.headLength);
      const tables = new ImageBuilder({ layout, sink, blake3, compression });
      const copied = await copyToImage(reader, { ...options, clusterSize, tables, sink, compression });
      expect(copied.size).toBe(statSync(path).size);
      const { code, report } = qemuCheck(path);
      expect([code, report.leaks ?? 0]).toEqual([0, 0]);
      const padded = Buffer.concat([disk, Buffer.alloc((512 - (size % 512)) % 512)]);
      writeFileSync(`${path}.raw`, padded);
      qemuImg('compare', '-f', 'qcow2', '-F', 'raw', path, `${path}.raw`);
      const image = await openQcow2(await openFileSource(path));
      const bytes = Buffer.alloc(padded.length);
      await image.read(bytes, 0);
      expect(bytes.equals(padded)).toBe(true);
      await image.close();
    },
  );

  it('of a chain of qcow2 images with other clusters stands alone', async () => {
    const base = scratch('base.qcow2');
    const top = scratch('top.qcow2');
    writeFileSync(scratch('base.raw'), makeDisk(10 * MIB, 1));
    qemuImg('convert', '-c', '-O', 'qcow2', '-o', 'cluster_size=2M', scratch('base.raw'), base);
    qemuImg('create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', 'base.qcow2', '-o', 'cluster_size=4k', top, '13M');
    const layers = [
      await openQcow2(await openFileSource(top), { layer: true }),
      await openQcow2(await openFileSource(base), { layer: true }),
    ];
    const layout = planLayout(13 * MIB, CS);
    const path = scratch('alone.qcow2');
    const sink = openWriterSink(await createFileWriter(path, { size: 0, replace: false }), layout.headLength);
    const tables = new ImageBuilder({ layout, sink, blake3, compression: 'zstd' });
    const disk = overlay(layers);
    await copyToImage(disk, { ...options, tables, sink, compression: 'zstd' });
    expect(await compareDisks(disk, await openQcow2(await openFileSource(path)))).toMatchObject({ identical: true });
    await disk.close();
    expect(qemuCheck(path).code).toBe(0);
    qemuImg('compare', path, top);
  });

  it('leaves nothing when it fails', async () => {
    const folder = readdirSync(scratch('.'));
    for (const at of ['read', 'digest', 'finish', 'cancel', 'append'] as const) {
      const disk = noiseBytes(4 * MIB, randomNumbers(5));
      const trouble = new Error(at);
      const reader: DiskReader =
        at === 'read' ? { ...opaqueDisk(disk), read: () => Promise.reject(trouble) } : openRawReader(bytesSource(disk));
      const layout = planLayout(disk.length, CS);
      const writer = await createFileWriter(scratch('failed.qcow2'), { size: 0, replace: false });
      const direct = openWriterSink(writer, layout.headLength);
      const { direct: _direct, ...served } = direct;
      const sink = at === 'append' ? { ...served, append: () => Promise.reject(trouble) } : direct;
      const tables = new ImageBuilder({ layout, sink, blake3, compression: 'none' });
      const parts =
        at === 'finish'
          ? { addPlain: () => {}, addCompressed: () => {}, flush: async () => {}, finish: () => Promise.reject(trouble) }
          : tables;
      const run = copyToImage(reader, {
        ...options,
        tables: parts,
        sink,
        compression: 'none',
        ...(at === 'digest' ? { view: viewOf([Buffer.alloc(32, 1)]) } : {}),
        ...(at === 'cancel' ? { signal: AbortSignal.abort() } : {}),
      });
      const error = await run.catch((failure: unknown) => failure);
      if (at === 'digest') expect(error).toBeInstanceOf(ReportedFailure);
      else if (at === 'cancel') expect(error).toMatchObject({ code: 'CANCELLED' });
      else expect(error).toBe(trouble);
      expect(readdirSync(scratch('.'))).toEqual(folder);
    }
  });

  it('says what the sink says of a write that failed in a thread', async () => {
    const trouble = new Error('no room in the repository');
    const next = new BigInt64Array(new SharedArrayBuffer(8));
    const aborted: string[] = [];
    for (const [direct, expected] of [
      [{ fd: openFd('/dev/full', 'w'), next, fail: async () => trouble }, trouble],
      [undefined, expect.objectContaining({ message: 'served' })],
    ] as const) {
      const sink = {
        name: 'full',
        ...(direct ? { direct } : {}),
        append: () => Promise.reject(new Error('served')),
        finish: () => Promise.reject(new Error('not asked for')),
        abort: async () => void aborted.push('abort'),
      };
      const tables = new ImageBuilder({ layout: planLayout(MIB, CS), sink, blake3, compression: 'none' });
      const error = await copyToImage(openRawReader(bytesSource(noiseBytes(MIB, randomNumbers(6)))), {
        ...options,
        tables,
        sink,
        compression: 'none',
      }).catch((failure: unknown) => failure);
      expect(error).toEqual(expected);
    }
    expect(aborted).toEqual(['abort', 'abort']);
  });
});

describe('two disks', () => {
  const zeros = (size: number): DiskReader =>
    diskOf(
      size,
      async function* ({ offset, length }) {
        yield { offset, length, kind: offset % 2 === 0 ? 'zero' : 'absent' };
      },
      async () => {
        throw new Error('what is zero on both sides is not read');
      },
    );

  it('are the same, or differ at a byte', async () => {
    const bytes = makeDisk(5 * MIB + 3, 9);
    const same = await compareDisks(openRawReader(bytesSource(bytes)), opaqueDisk(bytes));
    expect(same).toEqual({ identical: true, sizes: [bytes.length, bytes.length] });
    for (const at of [0, 1, MIB - 1, MIB, 3 * MIB + 17, bytes.length - 1]) {
      const other = Buffer.from(bytes);
      other.writeUInt8(other.readUInt8(at) ^ 0x80, at);
      expect(await compareDisks(openRawReader(bytesSource(bytes)), opaqueDisk(other))).toMatchObject({ identical: false, offset: at });
    }
  });

  it('of other sizes are the same only where the longer one ends in zeros', async () => {
    const bytes = noiseBytes(2 * MIB + 7, randomNumbers(10));
    const longer = Buffer.concat([bytes, Buffer.alloc(3 * MIB)]);
    const reader = (of: Buffer): DiskReader => openRawReader(bytesSource(of));
    expect(await compareDisks(reader(bytes), reader(longer))).toEqual({ identical: true, sizes: [bytes.length, longer.length] });
    expect(await compareDisks(reader(longer), reader(bytes))).toMatchObject({ identical: true });
    longer.writeUInt8(1, longer.length - 1);
    expect(await compareDisks(reader(bytes), reader(longer))).toMatchObject({ identical: false, offset: longer.length - 1 });
    expect(await compareDisks(reader(longer), reader(bytes))).toMatchObject({ identical: false, offset: longer.length - 1 });
    expect(await compareDisks(reader(Buffer.alloc(0)), reader(Buffer.alloc(0)))).toMatchObject({ identical: true });
  });

  it('of nothing but zeros are not read, however large', async () => {
    expect(await compareDisks(zeros(2 ** 41), zeros(2 ** 40))).toMatchObject({ identical: true });
  });

  it('are compared until somebody says stop', async () => {
    const compared = compareDisks(zeros(MIB), zeros(MIB), { signal: AbortSignal.abort() });
    await expect(compared).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});
