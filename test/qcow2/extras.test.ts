// Snapshots, bitmaps and names: read for information, never needed to read the disk.

import { mkdirSync, writeFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openFileSource } from '../../src/plumbing/file-source.ts';
import { type BitmapDirectory, parseBitmapDirectory, readBitmaps } from '../../src/qcow2/bitmaps.ts';
import { parseHeader } from '../../src/qcow2/header.ts';
import { EXTENSION_BITMAPS } from '../../src/qcow2/header-extensions.ts';
import { openQcow2 } from '../../src/qcow2/image.ts';
import { readImageInfo } from '../../src/qcow2/image-info.ts';
import { mapImage } from '../../src/qcow2/image-map.ts';
import { writeCompressedEntry } from '../../src/qcow2/l2-entry.ts';
import { DEFAULT_LIMITS } from '../../src/qcow2/limits.ts';
import { encodeSnapshotTable, parseSnapshotTable, readSnapshots, type Snapshot } from '../../src/qcow2/snapshots.ts';
import { createTableCache, TableReader } from '../../src/qcow2/table-cache.ts';
import { CLUSTER, craftImage, PLACE } from './crafted-image.ts';
import { memorySource } from './memory-source.ts';
import { qemuImg, qemuIo, scratchFolder } from './qemu-tools.ts';

const scratch = scratchFolder();
const DATA = PLACE.data * CLUSTER;

const snapshotArbitrary: fc.Arbitrary<Snapshot> = fc.record({
  id: fc.string({ maxLength: 20 }),
  name: fc.string({ maxLength: 40, unit: 'grapheme' }),
  l1Offset: fc.integer({ min: 1, max: 10 }).map((cluster) => cluster * CLUSTER),
  l1Size: fc.integer({ min: 0, max: 8192 }),
  dateSeconds: fc.nat(2 ** 31 - 1),
  dateNanoseconds: fc.nat(999_999_999),
  clock: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  stateSize: fc.maxSafeNat(),
  diskSize: fc.maxSafeNat(),
  instructions: fc.option(fc.bigInt({ min: 0n, max: 2n ** 64n - 2n }), { nil: undefined }),
  unknownExtra: fc.uint8Array({ maxLength: 30 }),
});

describe('the snapshot table', () => {
  it('is read as it was written', () => {
    fc.assert(
      fc.property(fc.array(snapshotArbitrary, { maxLength: 10 }), (snapshots) => {
        const bytes = encodeSnapshotTable(snapshots);
        const head = { snapshotCount: snapshots.length, version: 3 as const, clusterSize: CLUSTER };
        expect(parseSnapshotTable(bytes, head, 100 * CLUSTER)).toEqual({ snapshots, tableLength: bytes.length });
        if (bytes.length > 0) expect(parseSnapshotTable(bytes.subarray(0, bytes.length - 9), head, 100 * CLUSTER)).toBeUndefined();
      }),
    );
  });

  const plain: Snapshot = {
    id: '1',
    name: 'a',
    l1Offset: CLUSTER,
    l1Size: 1,
    dateSeconds: 1,
    dateNanoseconds: 2,
    clock: 3n,
    stateSize: 4,
    diskSize: 5,
    instructions: undefined,
    unknownExtra: new Uint8Array(0),
  };
  const parse = (bytes: Uint8Array, version: 2 | 3 = 3) =>
    parseSnapshotTable(bytes, { snapshotCount: 1, version, clusterSize: CLUSTER }, 100 * CLUSTER);

  it.each([
    ['extra data over 1024 bytes', { ...plain, unknownExtra: new Uint8Array(1024) }, /1048 bytes of extra data/],
    ['an L1 table at no cluster', { ...plain, l1Offset: 512 }, /not at a cluster/],
    ['an L1 table at 0', { ...plain, l1Offset: 0 }, /not at a cluster/],
    ['an L1 table behind the file', { ...plain, l1Offset: 100 * CLUSTER }, /not at a cluster/],
    ['an L1 table over 32 MiB', { ...plain, l1Size: 4_194_305 }, /limit is 33554432/],
  ])('with %s is refused', (_what, snapshot, message) => {
    expect(() => parse(encodeSnapshotTable([snapshot]))).toThrow(message);
  });

  it('of version 2 may have no extra data, of version 3 not', () => {
    const bytes = Buffer.from(encodeSnapshotTable([plain]));
    const old = Buffer.concat([bytes.subarray(0, 40), bytes.subarray(56)]);
    old.writeUInt32BE(0, 36);
    old.writeUInt32BE(77, 32);
    expect(parse(old, 2)?.snapshots).toMatchObject([{ id: '1', name: 'a', stateSize: 77, diskSize: undefined, instructions: undefined }]);
    expect(() => parse(old)).toThrow(/version 3 needs 16/);
  });

  it('is read in larger and larger pieces, and refused where it never ends', async () => {
    const many = Array.from({ length: 2000 }, (_, number) => ({ ...plain, id: String(number), name: 'n'.repeat(60) }));
    const table = encodeSnapshotTable(many);
    const { bytes, view } = craftImage({}, 4);
    bytes.set(table, DATA);
    view.setUint32(60, 2000);
    view.setBigUint64(64, BigInt(DATA));
    const header = parseHeader(bytes, bytes.length, DEFAULT_LIMITS);
    const { snapshots, tableLength } = await readSnapshots(memorySource(bytes), header, DEFAULT_LIMITS);
    expect(snapshots.map(({ id }) => id)).toEqual(many.map(({ id }) => id));
    expect(tableLength).toBe(table.length);
    await expect(readSnapshots(memorySource(bytes), header, { ...DEFAULT_LIMITS, snapshotTableBytes: 100_000 })).rejects.toThrow(
      /goes on behind 100000/,
    );
    const cut = bytes.subarray(0, DATA + 1000);
    await expect(readSnapshots(memorySource(cut), header, DEFAULT_LIMITS)).rejects.toThrow(/goes on behind 1000/);
  });
});

interface DirectoryEntry {
  readonly offset?: number;
  readonly entries?: number;
  readonly flags?: number;
  readonly type?: number;
  readonly granularity?: number;
  readonly name?: string;
  readonly extra?: number;
}

/** Bitmaps of a disk of 4 MiB: one table entry each. */
function directory(...entries: readonly DirectoryEntry[]): Buffer {
  return Buffer.concat(
    entries.map(({ offset = CLUSTER, entries: count = 1, flags = 0, type = 1, granularity = 16, name = 'dirty', extra = 0 }) => {
      const bytes = Buffer.alloc(Math.ceil((24 + extra + Buffer.byteLength(name)) / 8) * 8);
      bytes.writeBigUInt64BE(BigInt(offset), 0);
      bytes.writeUInt32BE(count, 8);
      bytes.writeUInt32BE(flags, 12);
      bytes.writeUInt8(type, 16);
      bytes.writeUInt8(granularity, 17);
      bytes.writeUInt16BE(Buffer.byteLength(name), 18);
      bytes.writeUInt32BE(extra, 20);
      bytes.write(name, 24 + extra);
      return bytes;
    }),
  );
}

function parseDirectory(bytes: Uint8Array, count: number, autoclear = 1n): Pick<BitmapDirectory, 'bitmaps' | 'problem'> {
  return parseBitmapDirectory(bytes, count, { size: 4 * 1024 ** 2, clusterSize: CLUSTER, autoclear }, 100 * CLUSTER);
}

describe('the bitmap directory', () => {
  it('tells which bitmaps can be used', () => {
    const { bitmaps, problem } = parseDirectory(directory({ name: 'a', flags: 2 }, { name: 'b', granularity: 9 }), 2);
    expect(problem).toBeUndefined();
    expect(bitmaps).toEqual([
      { name: 'a', granularityBits: 16, tableOffset: CLUSTER, tableSize: 1, inUse: false, auto: true, unusable: undefined },
      { name: 'b', granularityBits: 9, tableOffset: CLUSTER, tableSize: 1, inUse: false, auto: false, unusable: undefined },
    ]);
  });

  it.each<[string, DirectoryEntry, RegExp]>([
    ['in-use', { flags: 1 }, /in use/],
    ['unknown-flags', { flags: 8 }, /unknown flags/],
    ['unknown-type', { type: 2 }, /unknown type 2/],
    ['granularity-8', { granularity: 8 }, /granularity is 2\^8/],
    ['granularity-32', { granularity: 32 }, /granularity is 2\^32/],
    ['name-empty', { name: '' }, /name has 0 bytes/],
    ['name-1024-bytes', { name: 'x'.repeat(1024) }, /name has 1024 bytes/],
    ['extra-data', { extra: 8 }, /unknown extra data/],
    ['table-too-short', { entries: 0 }, /table has 0 entries, the disk needs 1/],
    ['table-too-long', { entries: 2 }, /table has 2 entries/],
    ['table-unaligned', { offset: 512 }, /not at a cluster/],
    ['table-past-end-of-file', { offset: 100 * CLUSTER }, /not at a cluster/],
    ['table-offset-zero', { offset: 0 }, /not at a cluster/],
  ])('calls a bitmap unusable: %s', (_name, entry, why) => {
    const { bitmaps, problem } = parseDirectory(directory({ name: 'good' }, entry), 2);
    expect(problem).toBeUndefined();
    expect(bitmaps.map(({ unusable }) => unusable === undefined)).toEqual([true, false]);
    expect(bitmaps[1]?.unusable).toMatch(why);
  });

  it('calls all unusable where a program without bitmaps changed the image, and one of two with the same name', () => {
    expect(parseDirectory(directory({}), 1, 0n).bitmaps[0]?.unusable).toMatch(/does not know bitmaps/);
    expect(parseDirectory(directory({}, {}), 2).bitmaps.map(({ unusable }) => unusable)).toEqual([
      undefined,
      'another bitmap has the same name',
    ]);
  });

  it.each([
    ['fewer entries than it says', directory({}), 2, /has 1 of 2 bitmaps/],
    ['more entries than it says', directory({}, { name: 'b' }), 1, /goes on behind 1/],
    ['an entry that is cut off', directory({}).subarray(0, 20), 1, /middle of an entry/],
    ['an entry that reaches behind the end', directory({ name: 'abc' }).subarray(0, 24), 1, /middle of an entry/],
  ])('says that it has %s', (_what, bytes, count, problem) => {
    expect(parseDirectory(bytes, count).problem).toMatch(problem);
  });

  const withExtension = (data: Uint8Array) => {
    const { bytes } = craftImage({ extensions: [{ type: EXTENSION_BITMAPS, data }] }, 1);
    return readBitmaps(memorySource(bytes), parseHeader(bytes, bytes.length, DEFAULT_LIMITS), DEFAULT_LIMITS);
  };
  const extension = (count: number, reserved: number, length: bigint, offset: bigint): Buffer => {
    const data = Buffer.alloc(24);
    data.writeUInt32BE(count, 0);
    data.writeUInt32BE(reserved, 4);
    data.writeBigUInt64BE(length, 8);
    data.writeBigUInt64BE(offset, 16);
    return data;
  };

  it.each([
    ['extension-23-bytes', new Uint8Array(23), /has 23 bytes/],
    ['no-bitmaps', extension(0, 0, 32n, BigInt(DATA)), /0 bitmaps/],
    ['65536-bitmaps', extension(65_536, 0, 32n, BigInt(DATA)), /65536 bitmaps/],
    ['reserved-bytes', extension(1, 1, 32n, BigInt(DATA)), /reserved/],
    ['directory-over-64-mib', extension(1, 0, 2n ** 26n + 8n, BigInt(DATA)), /67108872 bytes/],
    ['directory-unaligned', extension(1, 0, 32n, BigInt(DATA + 512)), /not at a cluster/],
    ['directory-past-end-of-file', extension(1, 0, 65_544n, BigInt(DATA)), /not at a cluster/],
    ['directory-at-2-to-the-60', extension(1, 0, 32n, 1n << 60n), /not at a cluster/],
  ])('never hinders reading: %s', async (_name, data, problem) => {
    expect((await withExtension(data))?.problem).toMatch(problem);
    const { bytes } = craftImage({ extensions: [{ type: EXTENSION_BITMAPS, data }] }, 1);
    const image = await openQcow2(memorySource(bytes));
    await image.read(new Uint8Array(CLUSTER), 0);
    expect(image.warnings[0]).toMatch(/bitmaps, which are out of date/);
    const info = await readImageInfo(memorySource(bytes));
    expect(info.warnings.at(-1)).toMatch(problem);
  });
});

describe('readImageInfo', () => {
  it('shows names from an image, and opens none of them', async () => {
    for (const [name, full] of [
      ['parent.qcow2', 'folder/parent.qcow2'],
      ['../parent.qcow2', 'parent.qcow2'],
      ['/etc/hostname', '/etc/hostname'],
      ['json:{"file":"x"}', 'json:{"file":"x"}'],
      ['nbd://host/x', 'nbd://host/x'],
    ] as const) {
      const { bytes } = craftImage({ backing: { name, format: 'raw' } });
      const info = await readImageInfo(memorySource(bytes, 'folder/child.qcow2'));
      expect(info).toMatchObject({ 'backing-filename': name, 'full-backing-filename': full, 'backing-filename-format': 'raw' });
      expect(info).not.toHaveProperty('actual-size');
    }
  });

  it('tells of a broken snapshot table and an unusable bitmap instead of failing', async () => {
    const data = Buffer.alloc(24);
    data.writeUInt32BE(1, 0);
    data.writeBigUInt64BE(32n, 8);
    data.writeBigUInt64BE(BigInt(DATA), 16);
    const { bytes, view } = craftImage({ extensions: [{ type: EXTENSION_BITMAPS, data }] }, 1);
    directory({ flags: 3 }).copy(bytes, DATA);
    view.setUint32(60, 1);
    view.setBigUint64(64, BigInt(PLACE.l1 * CLUSTER));
    view.setBigUint64(88, 1n);
    const info = await readImageInfo(memorySource(bytes));
    expect(info.warnings).toEqual([
      expect.stringMatching(/snapshot 1 has 0 bytes of extra data/),
      'the bitmap "dirty" cannot be used: it was in use when the image was last written',
    ]);
    expect(info['format-specific'].data.bitmaps).toEqual([{ name: 'dirty', granularity: 65_536, flags: ['in-use', 'auto'] }]);
  });

  it('refuses what is no image, by name', async () => {
    await expect(readImageInfo(memorySource(Buffer.from('hello'), 'disk.img'))).rejects.toThrow(/^disk\.img: not a QCOW2 image/);
    await expect(readImageInfo(memorySource(new Uint8Array(0)))).rejects.toThrow(/not a QCOW2 image/);
  });
});

describe('mapImage', () => {
  it('calls compressed clusters so, also in pieces', async () => {
    const { bytes, l2 } = craftImage({}, 1);
    writeCompressedEntry(l2, 0, 16, DATA, 100);
    const image = await openQcow2(memorySource(bytes));
    const expected = { depth: 0, present: true, zero: false, data: true, compressed: true };
    expect(await Array.fromAsync(mapImage([image], { offset: 0, length: CLUSTER }))).toEqual([{ start: 0, length: CLUSTER, ...expected }]);
    expect(await Array.fromAsync(mapImage([image], { offset: 1000, length: 2000 }))).toEqual([{ start: 1000, length: 2000, ...expected }]);
  });

  it('of no layers is empty', async () => {
    await expect(Array.fromAsync(mapImage([]))).resolves.toEqual([]);
  });
});

describe('tables in memory', () => {
  it('stay below the limit, the longest unused leaving first', () => {
    const cache = createTableCache(300);
    const table = (length: number) => new DataView(new ArrayBuffer(length));
    for (const key of ['a', 'b', 'c']) cache.put(key, table(100));
    expect(cache.get('a')).toBeDefined();
    cache.put('d', table(100));
    expect(['a', 'b', 'c', 'd'].map((key) => cache.get(key) !== undefined)).toEqual([true, false, true, true]);
    cache.put('d', table(200));
    expect(['a', 'c', 'd'].map((key) => cache.get(key) !== undefined)).toEqual([false, true, true]);
    cache.put('e', table(1000));
    expect(['c', 'd', 'e'].map((key) => cache.get(key) !== undefined)).toEqual([false, false, false]);
  });

  it('are read in few reads where they are neighbours, and once', async () => {
    const reads: [number, number][] = [];
    const bytes = Buffer.from(Array.from({ length: 4096 }, (_, index) => Math.floor(index / 512)));
    const source = memorySource(bytes);
    const counted = {
      ...source,
      read: (buffer: Uint8Array, offset: number) => {
        reads.push([offset, buffer.length]);
        return source.read(buffer, offset);
      },
    };
    const tables = new TableReader(counted, createTableCache());
    const found = await tables.load([1024, 3072, 512, 1024, 0], 512);
    expect(found.map((view) => view.getUint8(511))).toEqual([2, 6, 1, 2, 0]);
    expect(reads).toEqual([
      [0, 1536],
      [3072, 512],
    ]);
    await tables.load([512, 3072], 512);
    expect(reads.length).toBe(2);
    const other = new TableReader(counted, createTableCache());
    await other.load([512], 512);
    expect(reads.length).toBe(3);
  });

  it('are never overwritten while somebody looks at them, however small the cache is', async () => {
    const SIZE = 512;
    const bytes = Buffer.from(Array.from({ length: 64 * SIZE }, (_, index) => Math.floor(index / SIZE)));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(fc.nat(63), { minLength: 1, maxLength: 6 }), { minLength: 5, maxLength: 60 }),
        fc.nat(8),
        async (loads, room) => {
          const tables = new TableReader(memorySource(bytes), createTableCache(room * SIZE));
          const held: { numbers: number[]; views: DataView[] }[] = [];
          for (const [step, numbers] of loads.entries()) {
            const views = await tables.load(
              numbers.map((number) => number * SIZE),
              SIZE,
            );
            held.push({ numbers, views });
            for (const hold of held) expect(hold.views.map((view) => view.getUint8(SIZE - 1))).toEqual(hold.numbers);
            if (step % 3 !== 0) tables.giveBack(held.splice(step % held.length, 1)[0]?.views ?? []);
          }
        },
      ),
      { numRuns: 100 },
    );
  });

  it('are used again when they were given back', async () => {
    const tables = new TableReader(memorySource(Buffer.alloc(4096, 1)), createTableCache(512));
    const [first] = await tables.load([0], 512);
    tables.giveBack(first ? [first] : []);
    await tables.load([1024], 512);
    const [third] = await tables.load([2048], 512);
    expect(third?.buffer).toBe(first?.buffer);
  });
});

describe('the library', () => {
  it('is enough to read and check an image', async () => {
    const library = await import('../../src/qcow2/library.ts');
    mkdirSync(scratch('library'));
    const path = scratch('library/disk.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', path, '1M');
    qemuIo(path, 'write -P 5 64k 64k');
    const image = await library.openQcow2(await library.openFileSource(path));
    const buffer = new Uint8Array(4);
    await image.read(buffer, 65_536);
    expect([...buffer]).toEqual([5, 5, 5, 5]);
    const entries = await Array.fromAsync(library.mapImage([image]));
    expect(entries.length).toBe(3);
    await image.close();
    const source = await library.openFileSource(path);
    expect(await library.checkImage(source)).toMatchObject({ corruptions: 0, leaks: 0 });
    expect((await library.readImageInfo(source))['virtual-size']).toBe(1024 ** 2);
    await source.close();
    writeFileSync(path, 'not an image');
    const broken = await openFileSource(path);
    const error: unknown = await library.openQcow2(broken).catch((reason: unknown) => reason);
    expect(library.isChainkeepError(error, 'QCOW2_INVALID')).toBe(true);
    await broken.close();
  });
});
