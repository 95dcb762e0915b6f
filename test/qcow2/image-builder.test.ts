// Images that are written forward once: their layout holds every disk that is allowed, their tables and refcounts are exact.

import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadBlake3 } from '../../src/plumbing/blake3.ts';
import type { ByteSink } from '../../src/plumbing/byte-sink.ts';
import { createClusterCodec } from '../../src/qcow2/cluster-codec.ts';
import { openQcow2 } from '../../src/qcow2/image.ts';
import { ImageBuilder } from '../../src/qcow2/image-builder.ts';
import { type ImageLayout, MAX_DISK_SIZE, planLayout } from '../../src/qcow2/image-layout.ts';
import { readStructure } from '../../src/qcow2/read-structure.ts';
import { RefcountBuilder } from '../../src/qcow2/refcount-builder.ts';
import { UsedBytes } from '../../src/qcow2/used-bytes.ts';
import { memorySource } from './memory-source.ts';
import { noise, numbers, qemuCheck, qemuImg, scratchFolder } from './qemu-tools.ts';

const scratch = scratchFolder();
const blake3 = await loadBlake3();
const MIB = 1024 ** 2;
const TIB = 1024 ** 4;
const CLUSTER_SIZES = Array.from({ length: 13 }, (_, index) => 512 << index);

interface MemorySink {
  readonly sink: ByteSink;
  bytes(): Buffer;
  end(): number;
}

function memorySink(headLength: number): MemorySink {
  const parts: Buffer[] = [];
  let end = headLength;
  let image = Buffer.alloc(0);
  const sink: ByteSink = {
    name: 'memory',
    append: async (buffers) => {
      const part = Buffer.concat(buffers);
      parts.push(part);
      end += part.length;
      return end - part.length;
    },
    finish: async (head) => {
      expect(head.length).toBe(headLength);
      image = Buffer.concat([head, ...parts]);
      return { size: image.length };
    },
    abort: async () => undefined,
  };
  return { sink, bytes: () => image, end: () => end };
}

/** Clusters that tables of a full image need: everything stored, every table there. */
function mostClusters(layout: ImageLayout): number {
  const { clusterSize, virtualSize, l1Size, headLength, blockEntries } = layout;
  const others = Math.ceil(virtualSize / clusterSize) + l1Size + headLength / clusterSize;
  let blocks = 0;
  while (blocks * blockEntries < others + blocks) blocks = Math.ceil((others + blocks) / blockEntries);
  return others + blocks;
}

describe('a layout', () => {
  const sizes = fc.oneof(
    fc.nat(100_000),
    fc.maxSafeNat().map((size) => size % MAX_DISK_SIZE),
  );

  it('has room in its refcount table for the largest file the image can become, within qemu limits', () => {
    fc.assert(
      fc.property(fc.constantFrom(...CLUSTER_SIZES), sizes, fc.boolean(), (clusterSize, size, edge) => {
        // Sizes around the borders at which tables grow are the dangerous ones.
        const border = (clusterSize * clusterSize) / 8;
        const wanted = edge ? Math.max(0, Math.round(size / border) * border + (size % 3) - 1) : size;
        let layout: ImageLayout;
        try {
          layout = planLayout(wanted, clusterSize);
        } catch (error) {
          expect(error).toMatchObject({ code: 'DISK_SIZE_INVALID' });
          // Only what qemu itself would refuse is refused: L1 of more than 32 MiB, or a refcount table of more than 8.
          const l1Bytes = Math.ceil(wanted / border) * 8;
          const refcountBytes = (wanted / clusterSize / (clusterSize / 2)) * 8;
          expect(l1Bytes > 32 * MIB || refcountBytes > 7.9 * MIB || wanted > MAX_DISK_SIZE).toBe(true);
          return;
        }
        expect(layout.virtualSize % 512).toBe(0);
        expect(layout.virtualSize - wanted).toBeLessThan(512);
        expect(layout.l1Size * layout.l2Entries * clusterSize).toBeGreaterThanOrEqual(layout.virtualSize);
        expect(layout.l1Offset + layout.l1Size * 8).toBeLessThanOrEqual(layout.refcountTableOffset);
        expect(layout.headLength).toBe(layout.refcountTableOffset + layout.refcountTableClusters * clusterSize);
        const counted = ((layout.refcountTableClusters * clusterSize) / 8) * layout.blockEntries;
        expect(counted).toBeGreaterThanOrEqual(mostClusters(layout));
        expect(layout.l1Size * 8).toBeLessThanOrEqual(32 * MIB);
        expect(layout.refcountTableClusters * clusterSize).toBeLessThanOrEqual(8 * MIB);
      }),
      { numRuns: 5000 },
    );
  });

  it('allows 64 TiB with the default clusters, and what small ones can map', () => {
    expect(planLayout(64 * TIB, 65_536).headLength).toBeLessThan(1.5 * MIB);
    expect(() => planLayout(64 * TIB + 1, 65_536)).toThrow(expect.objectContaining({ code: 'DISK_SIZE_INVALID' }));
    expect(() => planLayout(129 * 1024 ** 3, 512)).toThrow(
      expect.objectContaining({ code: 'DISK_SIZE_INVALID', advice: 'choose a larger cluster size' }),
    );
    expect(planLayout(125 * 1024 ** 3, 512).l1Size * 8).toBeLessThanOrEqual(32 * MIB);
    for (const clusterSize of [0, 256, 511, 3 * 512, 4 * MIB, Number.NaN, -512, 512.5]) {
      expect(() => planLayout(1000, clusterSize), String(clusterSize)).toThrow(expect.objectContaining({ code: 'DISK_SIZE_INVALID' }));
    }
    for (const size of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => planLayout(size, 65_536), String(size)).toThrow(expect.objectContaining({ code: 'DISK_SIZE_INVALID' }));
    }
  });
});

type Cluster = 'plain' | 'compressed' | 'zero' | 'none';

/** Writes an image of random clusters in batches, as transfers do: data first, in any order, tables as they fill. */
async function build(
  layout: ImageLayout,
  kinds: readonly Cluster[],
  seed: number,
  compression: 'zlib' | 'zstd',
): Promise<{ image: Buffer; disk: Buffer; structure: string }> {
  const { clusterSize } = layout;
  const random = numbers(seed);
  const codec = createClusterCodec();
  const memory = memorySink(layout.headLength);
  const builder = new ImageBuilder({ layout, sink: memory.sink, blake3, compression });
  const disk = Buffer.alloc(layout.virtualSize);
  for (let first = 0; first < kinds.length; ) {
    const batch = kinds.slice(first, first + 1 + random(40));
    const settled = memory.end();
    const places: (() => void)[] = [];
    let packed: Buffer[] = [];
    const pending: { cluster: number; at: number; length: number }[] = [];
    for (const [index, kind] of batch.entries()) {
      const cluster = first + index;
      const target = disk.subarray(cluster * clusterSize, (cluster + 1) * clusterSize);
      if (kind === 'zero') places.push(() => builder.addZero(cluster));
      if (kind === 'plain') {
        const bytes = noise(clusterSize, seed + cluster);
        bytes.copy(target);
        bytes.fill(0, target.length);
        const offset = await memory.sink.append([bytes]);
        places.push(() => builder.addPlain(cluster, offset));
      }
      if (kind === 'compressed') {
        const bytes = Buffer.alloc(clusterSize, `${cluster} `);
        bytes.copy(target);
        const stored = Buffer.alloc(clusterSize);
        const length = compression === 'zstd' ? codec.compressZstd(bytes, stored, 1) : codec.compressZlib(bytes, stored, 1);
        const at = packed.reduce((sum, part) => sum + part.length, 0);
        packed.push(stored.subarray(0, length));
        const entry = { cluster, at, length };
        pending.push(entry);
        places.push(() => builder.addCompressed(cluster, entry.at, entry.length));
      }
    }
    if (packed.length > 0) {
      const bytes = Buffer.concat(packed);
      const base = await memory.sink.append([bytes, Buffer.alloc((clusterSize - (bytes.length % clusterSize)) % clusterSize)]);
      for (const entry of pending) entry.at += base;
      packed = [];
    }
    for (const place of places) place();
    await builder.flush(settled);
    first += batch.length;
  }
  const { size, structure } = await builder.finish();
  const image = memory.bytes();
  expect(size).toBe(image.length);
  return { image, disk, structure };
}

const KINDS: readonly Cluster[] = ['plain', 'compressed', 'compressed', 'zero', 'none'];

describe('an image', () => {
  it.each([
    [512, 3000, 'zlib'],
    [512, 900, 'zstd'],
    [1024, 2500, 'zstd'],
    [4096, 700, 'zlib'],
    [65_536, 60, 'zstd'],
    [2 * MIB, 4, 'zstd'],
  ] as const)('with clusters of %i, %i of them, %s, is clean and reads as what was put in', async (clusterSize, count, compression) => {
    const random = numbers(clusterSize + count);
    // The last cluster is cut by the end of the disk; with small clusters there are many tables and refcount blocks.
    const layout = planLayout(count * clusterSize - 300, clusterSize);
    const kinds = Array.from({ length: count }, () => KINDS[random(KINDS.length)] ?? 'none');
    const { image, disk, structure } = await build(layout, kinds, count, compression);
    const path = scratch('built.qcow2');
    writeFileSync(path, image);
    const { code, report } = qemuCheck(path);
    expect({ code, leaks: report.leaks ?? 0, errors: report['check-errors'], corruptions: report.corruptions ?? 0 }).toEqual({
      code: 0,
      leaks: 0,
      errors: 0,
      corruptions: 0,
    });
    expect(report['image-end-offset']).toBe(image.length);
    qemuImg('convert', '-O', 'raw', path, scratch('built.raw'));
    expect(readFileSync(scratch('built.raw')).equals(disk)).toBe(true);
    rmSync(path);
    const opened = await openQcow2(memorySource(image), { layer: true });
    const bytes = Buffer.alloc(disk.length);
    await opened.read(bytes, 0);
    expect(bytes.equals(disk)).toBe(true);
    for await (const { kind, offset, length } of opened.extents({ offset: 0, length: disk.length })) {
      const expected = { data: ['plain', 'compressed'], zero: ['zero'], absent: ['none'] }[kind];
      for (let at = Math.floor(offset / clusterSize); at < Math.ceil((offset + length) / clusterSize); at++)
        expect(expected).toContain(kinds[at]);
    }
    // What a reader finds again is what the writer digested, and every byte but padding is accounted for.
    const used = new UsedBytes(image.length, clusterSize);
    const { header } = opened;
    expect(await readStructure({ source: memorySource(image), header, diskSize: disk.length, blake3 }, used)).toBe(structure);
    for await (const mapping of opened.mapping({ offset: 0, length: disk.length })) {
      if (mapping.kind === 'compressed') used.add(mapping.hostOffset, 1);
    }
    expect(used.findOverlap()).toBeUndefined();
  });

  it('without any cluster is clean, also of a disk without bytes', async () => {
    for (const size of [0, 1, 10 * MIB]) {
      const layout = planLayout(size, 65_536);
      const { image } = await build(layout, [], 1, 'zlib');
      const path = scratch('empty.qcow2');
      writeFileSync(path, image);
      const { code, report } = qemuCheck(path);
      expect([code, report.leaks ?? 0]).toEqual([0, 0]);
      // Header, L1, refcount table and one refcount block: nothing else.
      expect(image.length).toBe(layout.headLength + 65_536);
    }
  });

  it('takes its clusters in the order of the disk, table by table', async () => {
    const layout = planLayout(10 * MIB, 512);
    const builder = new ImageBuilder({ layout, sink: memorySink(layout.headLength).sink, blake3, compression: 'none' });
    builder.addZero(200);
    expect(() => builder.addZero(5)).toThrow(expect.objectContaining({ code: 'INTERNAL' }));
  });

  it('fills many refcount blocks, which leave while data are still coming', async () => {
    // Clusters of 512 bytes: a block counts 256 of them. Blocks that leave early count the tables behind them right.
    const layout = planLayout(4 * MIB, 512);
    const kinds = Array.from({ length: layout.virtualSize / 512 }, (): Cluster => 'plain');
    const { image, disk } = await build(layout, kinds, 5, 'zlib');
    writeFileSync(scratch('many.qcow2'), image);
    const { code, report } = qemuCheck(scratch('many.qcow2'));
    expect([code, report.leaks ?? 0]).toEqual([0, 0]);
    qemuImg('convert', '-O', 'raw', scratch('many.qcow2'), scratch('many.raw'));
    expect(readFileSync(scratch('many.raw')).equals(disk)).toBe(true);
  });

  it('is refused when something was appended that nobody counted', async () => {
    const layout = planLayout(MIB, 512);
    const memory = memorySink(layout.headLength);
    const builder = new ImageBuilder({ layout, sink: memory.sink, blake3, compression: 'none' });
    await memory.sink.append([Buffer.alloc(512)]);
    await expect(builder.finish()).rejects.toMatchObject({ code: 'INTERNAL' });
  });
});

describe('refcounts', () => {
  it('are exact for every reference, and refuse what 16 bits cannot hold', async () => {
    const layout = planLayout(100 * MIB, 512);
    const memory = memorySink(layout.headLength);
    const refcounts = new RefcountBuilder(layout, memory.sink, blake3.create());
    refcounts.count(0, layout.headLength);
    for (let count = 0; count < 65_535; count++) refcounts.count(layout.headLength + (count % 512), 1);
    expect(() => refcounts.count(layout.headLength + 511, 1)).toThrow(expect.objectContaining({ code: 'INTERNAL' }));
    refcounts.count(layout.headLength + 511 + 512, 2);
  });

  it('refuse a count in a block that has left', async () => {
    const layout = planLayout(100 * MIB, 512);
    const memory = memorySink(layout.headLength);
    const refcounts = new RefcountBuilder(layout, memory.sink, blake3.create());
    refcounts.count(0, layout.headLength);
    await memory.sink.append([Buffer.alloc(300 * 512)]);
    refcounts.count(layout.headLength, 300 * 512);
    await refcounts.flush(layout.headLength + 300 * 512);
    expect(() => refcounts.count(0, 1)).toThrow(expect.objectContaining({ code: 'INTERNAL' }));
    const { table, digest } = await refcounts.finish();
    expect(digest.length).toBe(32);
    expect(Buffer.from(table).readBigUInt64BE(0)).toBe(BigInt(layout.headLength + 300 * 512));
  });
});

describe('used bytes', () => {
  it('find what is used twice, and what is used by nothing and not zero', async () => {
    const used = new UsedBytes(10 * 512 + 100, 512);
    used.add(0, 512);
    used.add(512, 700);
    used.add(1212, 100);
    used.add(9 * 512, 10_000);
    used.add(1 << 30, 512);
    used.add(2048, -5);
    expect(used.findOverlap()).toBeUndefined();
    const bytes = Buffer.alloc(10 * 512 + 100);
    bytes.fill(7, 0, 1312);
    bytes.fill(7, 9 * 512);
    expect(await used.findStray(memorySource(bytes))).toBeUndefined();
    for (const offset of [1312, 1535, 2048, 8 * 512 + 511]) {
      const stray = Buffer.from(bytes);
      stray.writeUInt8(1, offset);
      expect(await used.findStray(memorySource(stray))).toEqual({ offset });
    }
    used.add(512, 1);
    expect(used.findOverlap()).toBe(512);
  });

  it('are counted in windows that do not see each other', async () => {
    const bytes = Buffer.alloc(10 * 512 + 100);
    bytes.fill(7, 700, 3000);
    const windows = [0, 3, 6, 9].map((first) => new UsedBytes(bytes.length, 512, first, 3));
    for (const window of windows) window.add(700 - 188, 2300 + 188);
    for (const window of windows) expect(await window.findStray(memorySource(bytes))).toBeUndefined();
    bytes.writeUInt8(1, 3001);
    bytes.writeUInt8(1, bytes.length - 1);
    const strays = await Promise.all(windows.map((window) => window.findStray(memorySource(bytes))));
    expect(strays).toEqual([undefined, { offset: 3001 }, undefined, { offset: bytes.length - 1 }]);
    for (const window of windows) window.add(4 * 512, 1000);
    expect(windows.map((window) => window.findOverlap())).toEqual([undefined, 4 * 512, undefined, undefined]);
  });
});

describe('the structure of an image that lies', () => {
  it('is refused before anything is read that the file does not hold', async () => {
    const layout = planLayout(MIB, 4096);
    const { image } = await build(layout, ['plain', 'plain', 'zero'], 1, 'zlib');
    const { header } = await openQcow2(memorySource(image), { layer: true });
    const read = (change: object): Promise<string> =>
      readStructure(
        { source: memorySource(image), header: { ...header, ...change }, diskSize: MIB, blake3 },
        new UsedBytes(image.length, 4096),
      );
    await expect(read({})).resolves.toMatch(/^[0-9a-f]{64}$/);
    for (const change of [
      { l1Offset: 8192 },
      { l1Size: 513 },
      { l1Size: 2 ** 22 },
      { refcountTableOffset: 4096 },
      { refcountTableOffset: 2 ** 40 },
      { refcountTableClusters: 1000 },
    ]) {
      await expect(read(change), JSON.stringify(change)).rejects.toMatchObject({ code: 'QCOW2_INVALID' });
    }
    for (const at of [header.l1Offset, header.refcountTableOffset]) {
      for (const offset of [2n ** 52n, BigInt(image.length) - 512n, BigInt(image.length)]) {
        const damaged = Buffer.from(image);
        damaged.writeBigUInt64BE(offset, at);
        const reading = { source: memorySource(damaged), header, diskSize: MIB, blake3 };
        await expect(readStructure(reading, new UsedBytes(damaged.length, 4096))).rejects.toMatchObject({ code: 'QCOW2_INVALID' });
      }
    }
  });
});
