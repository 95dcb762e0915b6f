// Damage the check must see. qemu-img judges too where only metadata is wrong; where it is blind, what was done to the image is the judge.

import { writeFileSync } from 'node:fs';
import { deflateRawSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { type CheckReport, checkReportFields } from '../../src/qcow2/check-report.ts';
import { type CheckOptions, checkImage } from '../../src/qcow2/checker.ts';
import { EXTENSION_BITMAPS } from '../../src/qcow2/header-extensions.ts';
import { HostClusters } from '../../src/qcow2/host-clusters.ts';
import { writeL1Entry } from '../../src/qcow2/l1-entry.ts';
import { writeCompressedEntry, writeStandardEntry } from '../../src/qcow2/l2-entry.ts';
import { writeRefcount, writeRefcountTableEntry } from '../../src/qcow2/refcounts.ts';
import { encodeSnapshotTable } from '../../src/qcow2/snapshots.ts';
import { CLUSTER, type Crafted, craftImage, PLACE } from './crafted-image.ts';
import { memorySource, sparseSource } from './memory-source.ts';
import { qemuCheck, scratchFolder } from './qemu-tools.ts';

const scratch = scratchFolder();
const DATA = PLACE.data * CLUSTER;

/** Three data clusters in a row, healthy. */
function healthy(fields: Parameters<typeof craftImage>[0] = {}): Crafted {
  const image = craftImage(fields, 3);
  for (let number = 0; number < 3; number += 1) writeStandardEntry(image.l2, number, DATA + number * CLUSTER);
  return image;
}

async function check(bytes: Uint8Array, options: CheckOptions = {}): Promise<CheckReport> {
  return checkImage(memorySource(bytes), options);
}

interface Expected {
  readonly corruptions: number;
  readonly leaks: number;
  readonly message: RegExp;
  /** What qemu-img says where it differs; undefined where it sees nothing. */
  readonly qemu?: { readonly corruptions?: number; readonly leaks?: number } | 'blind' | 'other';
}

type Damage = (image: Crafted) => void;

const DAMAGED: Record<string, [Damage, Expected]> = {
  'leaked-cluster': [({ l2 }) => l2.setBigUint64(16, 0n), { corruptions: 0, leaks: 1, message: /has refcount 1, 0 references/ }],
  'missing-refcount': [
    ({ refcountBlock }) => writeRefcount(refcountBlock, PLACE.data, 4, 0),
    { corruptions: 2, leaks: 0, message: /COPIED is set, but the refcount is not one/ },
  ],
  'refcount-too-high': [
    ({ refcountBlock }) => writeRefcount(refcountBlock, PLACE.data, 4, 2),
    { corruptions: 1, leaks: 1, message: /has refcount 2, 1 references/ },
  ],
  'refcount-of-the-header-missing': [
    ({ refcountBlock }) => writeRefcount(refcountBlock, 0, 4, 0),
    { corruptions: 1, leaks: 0, message: /cluster at 0 of the file has refcount 0/ },
  ],
  'copied-flag-missing': [({ l2 }) => l2.setBigUint64(0, BigInt(DATA)), { corruptions: 1, leaks: 0, message: /COPIED is not set/ }],
  'copied-flag-missing-in-l1': [
    ({ l1 }) => l1.setBigUint64(0, BigInt(PLACE.l2 * CLUSTER)),
    { corruptions: 1, leaks: 0, message: /entry 0 of the L1 table: COPIED is not set/ },
  ],
  'data-unaligned': [
    ({ l2 }) => l2.setBigUint64(0, (1n << 63n) | BigInt(DATA + 512)),
    { corruptions: 1, leaks: 1, message: /guest offset 0: the offset .* multiple/, qemu: 'other' },
  ],
  'data-reserved-bits': [
    ({ l2 }) => l2.setBigUint64(0, (1n << 63n) | BigInt(DATA) | 2n),
    { corruptions: 1, leaks: 0, message: /reserved bits/, qemu: 'other' },
  ],
  'data-two-guests-one-cluster': [
    ({ l2 }) => writeStandardEntry(l2, 2, DATA),
    { corruptions: 1, leaks: 1, message: /refcount 1, 2 references/ },
  ],
  'data-in-the-l1-table': [
    ({ l2 }) => writeStandardEntry(l2, 2, PLACE.l1 * CLUSTER),
    { corruptions: 2, leaks: 1, message: /used twice: structure and standard/, qemu: { corruptions: 1, leaks: 1 } },
  ],
  'data-in-its-own-l2-table': [
    ({ l2 }) => writeStandardEntry(l2, 2, PLACE.l2 * CLUSTER),
    { corruptions: 2, leaks: 1, message: /used twice: l2 and standard/, qemu: { corruptions: 1, leaks: 1 } },
  ],
  'data-past-end-of-file': [
    ({ l2 }) => writeStandardEntry(l2, 2, DATA + 100 * CLUSTER),
    { corruptions: 1, leaks: 1, message: /goes on behind the end of the file/, qemu: 'other' },
  ],
  'compressed-with-copied': [
    ({ l2, bytes }) => {
      deflateRawSync(Buffer.alloc(CLUSTER)).copy(bytes, DATA);
      writeCompressedEntry(l2, 0, 16, DATA, 100);
      l2.setUint8(0, l2.getUint8(0) | 0x80);
    },
    { corruptions: 1, leaks: 0, message: /COPIED is set on a compressed cluster/ },
  ],
  'l2-table-unaligned': [
    ({ l1 }) => l1.setBigUint64(0, (1n << 63n) | BigInt(PLACE.l2 * CLUSTER + 512)),
    { corruptions: 1, leaks: 4, message: /entry 0 of the L1 table: the offset/, qemu: 'other' },
  ],
  'l2-table-past-end-of-file': [
    ({ l1 }) => writeL1Entry(l1, 0, 100 * CLUSTER),
    { corruptions: 1, leaks: 4, message: /the L2 table of entry 0 .* goes on behind the end/, qemu: 'other' },
  ],
  'refcount-block-unaligned': [
    ({ refcountTable }) => writeRefcountTableEntry(refcountTable, 0, PLACE.refcountBlock * CLUSTER + 512),
    { corruptions: 12, leaks: 0, message: /refcount block 0: the offset/, qemu: 'other' },
  ],
  'refcount-block-past-end-of-file': [
    ({ refcountTable }) => writeRefcountTableEntry(refcountTable, 0, 100 * CLUSTER),
    { corruptions: 12, leaks: 0, message: /refcount block 0 .* goes on behind the end/, qemu: 'other' },
  ],
  'refcount-block-twice': [
    ({ refcountTable }) => writeRefcountTableEntry(refcountTable, 1, PLACE.refcountBlock * CLUSTER),
    { corruptions: 2, leaks: 0, message: /used twice: structure and structure/, qemu: 'other' },
  ],
  'refcount-behind-the-end-of-the-file': [
    ({ refcountBlock }) => writeRefcount(refcountBlock, 500, 4, 1),
    { corruptions: 0, leaks: 1, message: /lies behind the end of the file and has a refcount/, qemu: 'blind' },
  ],
};

describe('checkImage', () => {
  it('finds nothing wrong with a healthy image', async () => {
    const { bytes } = healthy();
    writeFileSync(scratch('healthy.qcow2'), bytes);
    const report = await check(bytes, { exclusive: true });
    expect(report).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0, allocatedClusters: 3, problems: [] });
    expect({ ...checkReportFields(report), filename: scratch('healthy.qcow2') }).toEqual(qemuCheck(scratch('healthy.qcow2')).report);
  });

  it.each(Object.entries(DAMAGED))('sees %s', async (name, [damage, expected]) => {
    const image = healthy();
    damage(image);
    const report = await check(image.bytes);
    expect(report.problems.map(({ message }) => message).join('\n')).toMatch(expected.message);
    expect({ corruptions: report.corruptions, leaks: report.leaks }).toEqual({ corruptions: expected.corruptions, leaks: expected.leaks });
    expect(await check(image.bytes, { windowClusters: 3 })).toMatchObject({ corruptions: report.corruptions, leaks: report.leaks });

    writeFileSync(scratch(`${name}.qcow2`), image.bytes);
    const judged = qemuCheck(scratch(`${name}.qcow2`));
    if (expected.qemu === 'blind') expect(judged.code).toBe(0);
    else if (expected.qemu === 'other') expect(judged.code).not.toBe(0);
    else {
      const { corruptions = 0, leaks = 0 } = expected.qemu ?? expected;
      expect({ corruptions: judged.report.corruptions ?? 0, leaks: judged.report.leaks ?? 0 }).toEqual({ corruptions, leaks });
    }
  });

  it('sees what qemu-img does not: a last cluster that is not all there', async () => {
    const { bytes } = healthy();
    const short = bytes.subarray(0, bytes.length - 1);
    writeFileSync(scratch('short.qcow2'), short);
    expect(qemuCheck(scratch('short.qcow2')).code).toBe(0);
    expect(await check(short)).toMatchObject({
      corruptions: 1,
      problems: [{ message: expect.stringMatching(/guest offset 0: .*not all inside|not all inside/) }],
    });
    const { bytes: cut, l1 } = healthy();
    writeL1Entry(l1, 0, DATA + 2 * CLUSTER);
    const inTable = await check(cut.subarray(0, cut.length - CLUSTER + 512));
    expect(inTable.problems.map(({ message }) => message)).toContainEqual(expect.stringMatching(/entry 0 .*L2 table .*not all inside/));
    const atEnd = healthy({ size: 2 * CLUSTER + 512 }).bytes;
    expect(await check(atEnd.subarray(0, atEnd.length - CLUSTER + 512))).toMatchObject({ corruptions: 0 });
    expect(await check(atEnd.subarray(0, atEnd.length - CLUSTER + 511))).toMatchObject({ corruptions: 1 });
  });

  it('allows shared clusters with the right refcount, but not in an image of our own', async () => {
    const { bytes, l2, refcountBlock } = healthy();
    l2.setBigUint64(0, BigInt(DATA));
    l2.setBigUint64(16, BigInt(DATA));
    writeRefcount(refcountBlock, PLACE.data, 4, 2);
    writeRefcount(refcountBlock, PLACE.data + 2, 4, 0);
    expect(await check(bytes)).toMatchObject({ corruptions: 0, leaks: 0 });
    expect(await check(bytes, { exclusive: true })).toMatchObject({ corruptions: 1, leaks: 0, problems: [{ kind: 'corruption' }] });
  });

  it('counts subclusters of extended entries', async () => {
    const { bytes, view, l2 } = craftImage({}, 1);
    view.setBigUint64(72, 16n);
    l2.setBigUint64(0, (1n << 63n) | BigInt(DATA));
    l2.setUint32(12, 0b101);
    expect(await check(bytes)).toMatchObject({ corruptions: 0, leaks: 0, allocatedClusters: 1 });
    const unit = CLUSTER / 32;
    expect(await check(bytes.subarray(0, DATA + 3 * unit))).toMatchObject({ corruptions: 0 });
    expect(await check(bytes.subarray(0, DATA + 3 * unit - 1))).toMatchObject({ corruptions: 1 });
    l2.setUint32(8, 1);
    expect(await check(bytes)).toMatchObject({ corruptions: 1, leaks: 1 });
  });

  it('says that a snapshot table is broken, and checks the rest', async () => {
    const { bytes, view } = healthy();
    view.setUint32(60, 1);
    view.setBigUint64(64, BigInt(DATA));
    expect(await check(bytes)).toMatchObject({ checkErrors: 1, corruptions: 0, leaks: 0, problems: [{ kind: 'unchecked' }] });
  });

  it('says that a bitmap directory is broken, and checks the rest', async () => {
    const data = Buffer.alloc(24);
    data.writeUInt32BE(2, 0);
    data.writeBigUInt64BE(1000n, 8);
    data.writeBigUInt64BE(512n, 16);
    const { bytes, view } = healthy({ extensions: [{ type: EXTENSION_BITMAPS, data }] });
    expect(await check(bytes)).toMatchObject({ checkErrors: 0, corruptions: 0 });
    view.setBigUint64(88, 1n);
    expect(await check(bytes)).toMatchObject({ checkErrors: 1, corruptions: 0 });
  });

  it('says that the table of a bitmap or one of its entries is broken', async () => {
    const data = Buffer.alloc(24);
    data.writeUInt32BE(2, 0);
    data.writeBigUInt64BE(64n, 8);
    data.writeBigUInt64BE(BigInt(DATA), 16);
    const { bytes, view, l2, refcountBlock } = healthy({ extensions: [{ type: EXTENSION_BITMAPS, data }] });
    view.setBigUint64(88, 1n);
    for (let number = 0; number < 3; number += 1) l2.setBigUint64(number * 8, 0n);
    const entry = (at: number, tableOffset: number, name: string): void => {
      bytes.writeBigUInt64BE(BigInt(tableOffset), at);
      bytes.writeUInt32BE(1, at + 8);
      bytes.writeUInt8(1, at + 16);
      bytes.writeUInt8(16, at + 17);
      bytes.writeUInt16BE(1, at + 18);
      bytes.write(name, at + 24);
    };
    entry(DATA, DATA + CLUSTER, 'a');
    entry(DATA + 32, DATA + 512, 'b');
    bytes.writeBigUInt64BE(2n, DATA + CLUSTER);
    writeRefcount(refcountBlock, PLACE.data + 2, 4, 0);
    const report = await check(bytes);
    expect(report.problems.map(({ message }) => message)).toEqual([
      'the bitmap "a": reserved bits are set',
      `the table of the bitmap "b" (8 bytes at ${DATA + 512}) is not at a cluster of the file`,
    ]);
  });

  it('keeps a thousand problems and counts all', async () => {
    const { bytes, l2 } = healthy();
    for (let index = 10; index < 3010; index += 1) l2.setBigUint64(index * 8, (1n << 63n) | 512n);
    const report = await check(bytes);
    expect(report.problems.length).toBe(1000);
    expect(report.corruptions).toBe(3000);
  });

  it('can be cancelled', async () => {
    await expect(check(healthy().bytes, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  it('throws for a header that is refused, with the name of the image', async () => {
    await expect(check(new Uint8Array(65_536))).rejects.toMatchObject({ code: 'QCOW2_INVALID', message: /^crafted.qcow2: not a QCOW2/ });
  });
});

/** A healthy image with so many snapshots, all with the same L1 table. */
function withSnapshots(count: number, l1: { readonly l1Offset: number; readonly l1Size: number }): Uint8Array {
  const { bytes, view } = healthy();
  const snapshot = { ...l1, dateSeconds: 0, dateNanoseconds: 0, clock: 0n, stateSize: 0 };
  const rest = { diskSize: 4 * 1024 ** 2, instructions: undefined, unknownExtra: new Uint8Array(0) };
  const table = encodeSnapshotTable(Array.from({ length: count }, (_, number) => ({ id: `${number}`, name: 'n', ...snapshot, ...rest })));
  bytes.set(table, DATA);
  view.setUint32(60, count);
  view.setBigUint64(64, BigInt(DATA));
  return bytes;
}

describe('a check of an image that is made to take for ever', () => {
  it('stops where more L2 tables are used than the file can hold', async () => {
    const { bytes, l1 } = craftImage({ size: 1024 ** 4, l1Size: 2048 }, 1);
    for (let index = 0; index < 2048; index += 1) writeL1Entry(l1, index, PLACE.l2 * CLUSTER);
    const report = await check(bytes);
    expect(report.checkErrors).toBe(1);
    expect(report.problems.some(({ kind, message }) => kind === 'unchecked' && /more L2 tables than the file can hold/.test(message))).toBe(
      true,
    );
    expect(report.corruptions).toBeGreaterThan(0);
  });

  it('looks once at an L2 table that fifty snapshots share, and counts it for each', async () => {
    const bytes = withSnapshots(50, { l1Offset: PLACE.l1 * CLUSTER, l1Size: 1 });
    const { checkErrors, problems } = await check(bytes, { mostTables: 2 });
    expect(checkErrors).toBe(0);
    expect(problems.map(({ message }) => message)).toContainEqual(expect.stringMatching(/refcount.* 1\b.* 51\b|51.* 1\b/));
  });

  it('says so where there are more L2 tables than it may look at', async () => {
    const bytes = withSnapshots(50, { l1Offset: PLACE.l1 * CLUSTER, l1Size: 1 });
    const { checkErrors, problems } = await check(bytes, { mostTables: 1 });
    expect(checkErrors).toBe(1);
    expect(problems).toContainEqual({ kind: 'unchecked', message: expect.stringMatching(/entry 0 of the L1 table of snapshot 1 /) });
  });

  it('says so where the L1 tables of snapshots are larger than the file', async () => {
    const bytes = withSnapshots(50, { l1Offset: PLACE.l1 * CLUSTER, l1Size: CLUSTER / 8 });
    const { checkErrors, problems } = await check(bytes);
    expect(checkErrors).toBe(50 - Math.floor((bytes.length - 8) / CLUSTER));
    expect(problems).toContainEqual({ kind: 'unchecked', message: expect.stringMatching(/L1 tables are larger than the file/) });
  });

  // Without the guards these take hours: the time limit of a test ends them.
  it('costs no more than the refcount table of a sparse file of 32 TiB', async () => {
    const { bytes, l2 } = healthy();
    writeStandardEntry(l2, 5, 2 ** 44 + CLUSTER);
    const report = await checkImage(sparseSource(2 ** 45, new Map([[0, bytes]])));
    expect(report).toMatchObject({ corruptions: 1, leaks: 0 });
    expect(report.problems[0]?.message).toMatch(/has no refcount: the table ends at 17592186044416/);
  });

  it('reads a refcount block once behind the end of the file, however often it stands in the table, and lets others have their turn', async () => {
    const { bytes, refcountTable } = healthy();
    for (let index = 1; index < 8192; index += 1) writeRefcountTableEntry(refcountTable, index, PLACE.refcountBlock * CLUSTER);
    let turns = 0;
    const timer = setInterval(() => {
      turns += 1;
    }, 10);
    const started = performance.now();
    const report = await checkImage(sparseSource(2 ** 40, new Map([[0, bytes]])));
    const took = performance.now() - started;
    clearInterval(timer);
    expect(report.corruptions).toBeGreaterThan(0);
    expect(turns).toBeGreaterThan(took / 250);
  });
});

describe('HostClusters', () => {
  it('counts beyond 16 bits', () => {
    const window = new HostClusters({ first: 10, count: 5, clusterSize: 512, exclusive: false });
    for (let number = 0; number < 70_000; number += 1) window.add(12 * 512 + 100, 1, 'compressed');
    expect(window.references(2)).toBe(70_000);
    expect(window.references(1)).toBe(0);
    for (const times of [65_534, 65_535, 65_536]) {
      const other = new HostClusters({ first: 0, count: 1, clusterSize: 512, exclusive: false });
      for (let number = 0; number < times; number += 1) other.add(0, 512, 'l2');
      expect(other.references(0)).toBe(times);
    }
  });

  it('ignores what lies outside of its window', () => {
    const window = new HostClusters({ first: 10, count: 5, clusterSize: 512, exclusive: false });
    expect(window.add(0, 512 * 100, 'standard')).toEqual([]);
    expect([0, 1, 2, 3, 4].map((index) => window.references(index))).toEqual([1, 1, 1, 1, 1]);
    expect(window.isStoredOne(0)).toBeUndefined();
    expect(window.isStoredOne(15 * 512)).toBeUndefined();
    window.markStoredOne(4);
    expect(window.isStoredOne(14 * 512)).toBe(true);
  });
});
