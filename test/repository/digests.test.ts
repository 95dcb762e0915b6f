// Digests files: what is written is read, section by section, and no byte of it can be wrong without being found.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadBlake3 } from '../../src/plumbing/blake3.ts';
import type { ByteSink } from '../../src/plumbing/byte-sink.ts';
import { isChainkeepError } from '../../src/plumbing/errors.ts';
import { ChainView, leavesOf } from '../../src/repository/chain-view.ts';
import {
  contentRoot,
  countRanges,
  DIRECTORY_BYTES,
  type DigestsHeader,
  digestsRoot,
  encodeDigestsHeader,
  encodeTrailer,
  HEADER_BYTES,
  INDEX,
  INDEX_BYTES,
  PAGE_ENTRIES,
  parseDigestsHeader,
  parseTrailer,
  RECORD,
  RECORD_BYTES,
  rangeHash,
  TRAILER_BYTES,
} from '../../src/repository/digests-format.ts';
import { type DigestsBinding, DigestsReader } from '../../src/repository/digests-reader.ts';
import { DigestsWriter, type WrittenDigests } from '../../src/repository/digests-writer.ts';
import { RANGE_CLUSTERS } from '../../src/transfer/expected-view.ts';
import { CLUSTER } from '../../src/transfer/unit.ts';
import { bytesSource, type Random, randomNumbers } from './model-disk.ts';

const blake3 = await loadBlake3();
const HEADER: DigestsHeader = { clusterSize: 512, totalBytes: 600 * RANGE_CLUSTERS * 512 - 100, generation: 1 };

interface Record {
  readonly cluster: number;
  readonly kind: number;
  readonly digest: Buffer;
  readonly storedLength: number;
  readonly crc: number;
}

type Sections = ReadonlyMap<number, readonly Record[]>;

function makeSections(ranges: readonly number[], most: number, random: Random): Sections {
  const sections = new Map<number, Record[]>();
  for (const range of ranges) {
    const clusters = new Set(Array.from({ length: 1 + random(most) }, () => random(RANGE_CLUSTERS)));
    const records = [...clusters]
      .sort((a, b) => a - b)
      .map((cluster) => {
        const data = random(3) > 0;
        const compressed = data && random(2) === 0;
        const digest = data ? Buffer.from(blake3.hash(Buffer.from(`${range} ${cluster} ${random(100)}`))) : Buffer.alloc(32);
        const kind = data ? CLUSTER.DATA : CLUSTER.ZERO;
        return { cluster, kind, digest, storedLength: compressed ? 1 + random(511) : 0, crc: compressed ? random(2 ** 32) : 0 };
      });
    sections.set(range, records);
  }
  return sections;
}

function leavesFor(records: readonly Record[]): Buffer {
  const leaves = Buffer.alloc(RANGE_CLUSTERS * 32);
  for (const { cluster, digest } of records) leaves.set(digest, cluster * 32);
  return leaves;
}

async function write(
  sections: Sections,
  header = HEADER,
  parentRanges: Uint8Array = new Uint8Array(0),
): Promise<{ bytes: Buffer; written: WrittenDigests }> {
  const parts: Buffer[] = [];
  const sink: ByteSink = {
    name: 'x.1.digests',
    append: async (buffers) => {
      parts.push(Buffer.concat(buffers));
      return 0;
    },
    finish: async (head) => {
      expect(head.length).toBe(0);
      return { size: Buffer.concat(parts).length };
    },
    abort: async () => undefined,
  };
  const writer = new DigestsWriter(sink, blake3, header, parentRanges);
  for (const [range, records] of [...sections].sort(([a], [b]) => a - b)) {
    for (const { cluster, kind, digest, storedLength, crc } of records) {
      if (kind === CLUSTER.ZERO) writer.add(range, cluster, { kind });
      else if (storedLength === 0) writer.add(range, cluster, { kind, digest });
      else writer.add(range, cluster, { kind, digest, storedLength, crc });
    }
    await writer.closeRange(range, rangeHash(blake3, leavesFor(records)));
  }
  const written = await writer.finish();
  const bytes = Buffer.concat(parts);
  expect(written.size).toBe(bytes.length);
  return { bytes, written };
}

function bindingOf(written: WrittenDigests, header = HEADER): DigestsBinding {
  return { ...header, backupId: 'x', root: written.root, contentRoot: written.contentRoot };
}

const open = (bytes: Uint8Array, binding: DigestsBinding): Promise<DigestsReader> =>
  DigestsReader.open(bytesSource(bytes), blake3, binding);

/** Looks at all of a file, as verify does. */
async function readAll(bytes: Uint8Array, binding: DigestsBinding): Promise<void> {
  const reader = await open(bytes, binding);
  await reader.ranges();
  for await (const section of reader.everySection()) expect(section.records.length).toBeGreaterThan(0);
  await reader.close();
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'fine';
  } catch (error) {
    return isChainkeepError(error) ? error.code : String(error);
  }
}

describe('a digests file', () => {
  it('gives back every section that was written, in any order, and nothing elsewhere', async () => {
    const random = randomNumbers(1);
    // More than two pages of the index.
    const ranges = Array.from({ length: 600 }, (_, range) => range).filter(() => random(10) > 0);
    const sections = makeSections(ranges, 3, random);
    expect(sections.size).toBeGreaterThan(2 * PAGE_ENTRIES);
    const { bytes, written } = await write(sections);
    const reader = await open(bytes, bindingOf(written));
    expect(reader.sections).toBe(sections.size);
    expect(reader.records).toBe([...sections.values()].reduce((sum, records) => sum + records.length, 0));
    for (let count = 0; count < 700; count++) {
      const range = random(620);
      const section = await reader.section(range);
      expect(section?.records.length).toBe(sections.has(range) ? (sections.get(range)?.length ?? 0) * RECORD_BYTES : undefined);
      for (const [index, record] of (sections.get(range) ?? []).entries()) {
        const raw = section?.records.subarray(index * RECORD_BYTES, (index + 1) * RECORD_BYTES);
        expect(raw?.readUInt16BE(RECORD.CLUSTER)).toBe(record.cluster);
        expect(raw?.readUInt8(RECORD.KIND)).toBe(record.kind);
        expect(raw?.readUInt8(RECORD.COMPRESSED)).toBe(record.storedLength > 0 ? 1 : 0);
        expect(raw?.readUInt32BE(RECORD.STORED_LENGTH)).toBe(record.storedLength);
        expect(raw?.readUInt32BE(RECORD.CRC)).toBe(record.crc);
        expect(raw?.subarray(RECORD.DIGEST)).toEqual(record.digest);
      }
    }
    const all: number[] = [];
    for await (const { range } of reader.everySection()) all.push(range);
    expect(all).toEqual([...sections.keys()]);
    const hashes = await reader.ranges();
    expect(hashes.length).toBe(600 * 32);
    for (const range of [0, 1, 299, 300, 599]) {
      expect(hashes.subarray(range * 32, range * 32 + 32)).toEqual(Buffer.from(rangeHash(blake3, leavesFor(sections.get(range) ?? []))));
    }
  });

  it('may decide nothing, of a disk that may have no bytes', async () => {
    for (const totalBytes of [0, 1, 512, 5 << 20]) {
      const header = { ...HEADER, totalBytes };
      const { bytes, written } = await write(new Map(), header);
      expect(written.records).toBe(0);
      await readAll(bytes, bindingOf(written, header));
      const reader = await open(bytes, bindingOf(written, header));
      expect(await reader.section(0)).toBeUndefined();
      expect((await reader.ranges()).every((byte) => byte === 0)).toBe(true);
    }
  });

  it('keeps the hashes of the ranges it does not touch', async () => {
    const header = { ...HEADER, totalBytes: 4 * RANGE_CLUSTERS * 512 };
    const parent = Buffer.concat([Buffer.alloc(32, 1), Buffer.alloc(32, 2), Buffer.alloc(32, 3)]);
    const sections = makeSections([1], 5, randomNumbers(3));
    const { bytes, written } = await write(sections, header, parent);
    const ranges = await (await open(bytes, bindingOf(written, header))).ranges();
    expect(ranges.subarray(0, 32)).toEqual(Buffer.alloc(32, 1));
    expect(ranges.subarray(32, 64)).toEqual(Buffer.from(rangeHash(blake3, leavesFor(sections.get(1) ?? []))));
    expect(ranges.subarray(64, 96)).toEqual(Buffer.alloc(32, 3));
    // The disk grew: what is new reads as zeros.
    expect(ranges.subarray(96)).toEqual(Buffer.alloc(32));
  });

  it('is found out when any bit is wrong', async () => {
    const header = { ...HEADER, totalBytes: 40 * RANGE_CLUSTERS * 512 + 1 };
    const { bytes, written } = await write(makeSections([0, 3, 40], 4, randomNumbers(4)), header);
    const binding = bindingOf(written, header);
    await readAll(bytes, binding);
    for (let offset = 0; offset < bytes.length; offset++) {
      for (const mask of [1 << (offset % 8), 0x80, 0xff]) {
        const flipped = Buffer.from(bytes);
        flipped.writeUInt8((bytes[offset] ?? 0) ^ mask, offset);
        expect(await codeOf(readAll(flipped, binding)), `byte ${offset} of ${bytes.length}, mask ${mask}`).toBe('DIGESTS_INVALID');
      }
    }
  });

  it('is found out when it is cut, continued, or two parts of it changed places', async () => {
    const header = { ...HEADER, totalBytes: 40 * RANGE_CLUSTERS * 512 };
    const sections = makeSections([2, 5], 1, randomNumbers(5));
    const { bytes, written } = await write(sections, header);
    const binding = bindingOf(written, header);
    for (let size = 0; size < bytes.length; size += 7) {
      expect(await codeOf(readAll(bytes.subarray(0, size), binding)), `cut to ${size}`).toBe('DIGESTS_INVALID');
      expect(await codeOf(readAll(bytes.subarray(bytes.length - size), binding)), `the last ${size}`).toBe('DIGESTS_INVALID');
    }
    for (const more of [1, TRAILER_BYTES, 1000]) {
      expect(await codeOf(readAll(Buffer.concat([bytes, Buffer.alloc(more)]), binding))).toBe('DIGESTS_INVALID');
      expect(await codeOf(readAll(Buffer.concat([Buffer.alloc(more), bytes]), binding))).toBe('DIGESTS_INVALID');
    }
    const swapped = Buffer.from(bytes);
    bytes.copy(swapped, HEADER_BYTES, HEADER_BYTES + RECORD_BYTES, HEADER_BYTES + 2 * RECORD_BYTES);
    bytes.copy(swapped, HEADER_BYTES + RECORD_BYTES, HEADER_BYTES, HEADER_BYTES + RECORD_BYTES);
    expect(await codeOf(readAll(swapped, binding))).toBe('DIGESTS_INVALID');
  });

  it('is found out when the sidecar means another', async () => {
    const { bytes, written } = await write(makeSections([1], 3, randomNumbers(6)));
    const binding = bindingOf(written);
    const others: Partial<DigestsBinding>[] = [
      { root: '0'.repeat(64) },
      { contentRoot: '0'.repeat(64) },
      { clusterSize: 1024 },
      { totalBytes: HEADER.totalBytes + 1 },
      { generation: 2 },
    ];
    for (const other of others) expect(await codeOf(open(bytes, { ...binding, ...other }))).toBe('DIGESTS_INVALID');
  });
});

/** A file in which something does not add up although every hash was made to fit. */
async function forge(change: (page: Buffer) => void): Promise<{ bytes: Buffer; binding: DigestsBinding }> {
  const { bytes, written } = await write(makeSections([2, 5, 9], 2, randomNumbers(7)));
  const trailer = parseTrailer(bytes.subarray(-TRAILER_BYTES));
  if (!trailer) throw new Error('what was written must parse');
  const page = bytes.subarray(trailer.pagesOffset, trailer.directoryOffset);
  change(page);
  const directory = bytes.subarray(trailer.directoryOffset, trailer.directoryOffset + DIRECTORY_BYTES);
  directory.set(blake3.hash(page), 4);
  const root = digestsRoot(blake3, bytes.subarray(0, HEADER_BYTES), directory, bytes.subarray(-TRAILER_BYTES));
  return { bytes, binding: { ...bindingOf(written), root: Buffer.from(root).toString('hex') } };
}

describe('a forged digests file', () => {
  it('is found out by its gaps', async () => {
    const forgeries: ((page: Buffer) => void)[] = [
      (page) => page.writeBigUInt64BE(page.readBigUInt64BE(INDEX.OFFSET) + 1n, INDEX.OFFSET),
      (page) => page.writeUInt32BE(page.readUInt32BE(INDEX.RECORDS) + 1, INDEX.RECORDS),
      (page) => page.writeUInt32BE(0, 2 * INDEX_BYTES + INDEX.RECORDS),
      (page) => page.writeUInt32BE(0xffff_ffff, 2 * INDEX_BYTES + INDEX.RECORDS),
      (page) => page.writeBigUInt64BE(0xffff_ffff_ffff_ffffn, INDEX.OFFSET),
      (page) => page.copyWithin(INDEX_BYTES, 0, INDEX_BYTES),
    ];
    for (const [index, change] of forgeries.entries()) {
      const { bytes, binding } = await forge(change);
      expect(await codeOf(readAll(bytes, binding)), `forgery ${index}`).toBe('DIGESTS_INVALID');
    }
    const { bytes, binding } = await forge((page) => page.writeUInt32BE(0xffff_ffff, INDEX.RECORDS));
    const reader = await open(bytes, binding);
    expect(await codeOf(reader.section(2))).toBe('DIGESTS_INVALID');
    const outside = await forge((page) => page.writeBigUInt64BE(1n << 52n, INDEX.OFFSET));
    expect(await codeOf((await open(outside.bytes, outside.binding)).section(2))).toBe('DIGESTS_INVALID');
  });
});

describe('its header and trailer', () => {
  const number = fc.oneof(fc.nat(), fc.maxSafeNat());

  it('are encoded and parsed', () => {
    fc.assert(
      fc.property(fc.integer({ min: 9, max: 21 }), number, number, (bits, totalBytes, generation) => {
        const header = { clusterSize: 2 ** bits, totalBytes, generation };
        expect(parseDigestsHeader(encodeDigestsHeader(header))).toEqual(header);
      }),
    );
    fc.assert(
      fc.property(
        number,
        number,
        number,
        number,
        number,
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        (sections, records, a, b, c, contentRoot) => {
          const trailer = { sections, records, rangesOffset: a, pagesOffset: b, directoryOffset: c, contentRoot };
          expect(parseTrailer(encodeTrailer(trailer))).toEqual(trailer);
        },
      ),
    );
  });

  it('have one encoding: any other bytes are none', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: HEADER_BYTES, maxLength: HEADER_BYTES }), (bytes) => {
        expect(parseDigestsHeader(Buffer.from(bytes))).toBeUndefined();
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array({ minLength: TRAILER_BYTES, maxLength: TRAILER_BYTES }), (bytes) => {
        expect(parseTrailer(Buffer.from(bytes))).toBeUndefined();
      }),
    );
  });
});

describe('a content root', () => {
  it('depends on every range, the size of the disk and of its clusters', () => {
    const ranges = Buffer.alloc(96, 7);
    const roots = [
      contentRoot(blake3, { clusterSize: 512, totalBytes: 3 << 22 }, ranges),
      contentRoot(blake3, { clusterSize: 1024, totalBytes: 3 << 22 }, ranges),
      contentRoot(blake3, { clusterSize: 512, totalBytes: (3 << 22) - 1 }, ranges),
      contentRoot(blake3, { clusterSize: 512, totalBytes: 3 << 22 }, Buffer.concat([ranges.subarray(32), Buffer.alloc(32, 8)])),
    ].map((root) => Buffer.from(root).toString('hex'));
    expect(new Set(roots).size).toBe(4);
    expect(countRanges(0, 512)).toBe(0);
    expect(countRanges(1, 512)).toBe(1);
    expect(countRanges(RANGE_CLUSTERS * 512, 512)).toBe(1);
    expect(countRanges(RANGE_CLUSTERS * 512 + 1, 512)).toBe(2);
    expect(Buffer.from(rangeHash(blake3, Buffer.alloc(RANGE_CLUSTERS * 32)))).toEqual(Buffer.alloc(32));
  });
});

describe('a view over a chain of digests', () => {
  it('takes the newest record of each cluster', async () => {
    const random = randomNumbers(9);
    const layers = [makeSections([0, 2], 3000, random), makeSections([0, 1], 3000, random), makeSections([0, 1, 2, 3], 3000, random)];
    const readers: DigestsReader[] = [];
    for (const sections of layers) {
      const { bytes, written } = await write(sections);
      readers.push(await open(bytes, bindingOf(written)));
    }
    const view = new ChainView(readers);
    for (const range of [0, 1, 2, 3, 4, 0, 12, 2, 1, 5, 6, 7, 8, 9, 10, 0]) {
      const found = await view.range(range);
      const truth = new Map<number, Record>();
      for (const sections of layers.toReversed()) for (const record of sections.get(range) ?? []) truth.set(record.cluster, record);
      expect(found === undefined).toBe(truth.size === 0);
      if (!found) continue;
      for (let cluster = 0; cluster < RANGE_CLUSTERS; cluster++) {
        const record = truth.get(cluster);
        if (found.kinds[cluster] !== (record?.kind ?? CLUSTER.UNKNOWN)) throw new Error(`cluster ${cluster} of range ${range}`);
        if (!record || record.kind !== CLUSTER.DATA) continue;
        if (!record.digest.equals(found.digests(cluster, cluster + 1))) throw new Error(`digest of ${cluster}`);
        if (found.storedLength(cluster) !== record.storedLength || found.crcs(cluster, cluster + 1)[0] !== record.crc)
          throw new Error(`stream of ${cluster}`);
      }
      const window = found.digests(100, 9 + 100);
      for (let local = 0; local < 9; local++)
        expect(window.subarray(local * 32, local * 32 + 32)).toEqual(found.digests(100 + local, 101 + local));
      expect(leavesOf(found).equals(leavesFor([...truth.values()].filter((record) => record.kind === CLUSTER.DATA)))).toBe(true);
    }
    expect(leavesOf(undefined).equals(Buffer.alloc(RANGE_CLUSTERS * 32))).toBe(true);
  });
});
