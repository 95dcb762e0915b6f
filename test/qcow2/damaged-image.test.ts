// What a reader does with an image that is wrong in one place: the affected read fails, the others do not, and nothing turns into zeros.

import { deflateRawSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import type { Extent } from '../../src/disk/extent.ts';
import { openQcow2 } from '../../src/qcow2/image.ts';
import { writeL1Entry } from '../../src/qcow2/l1-entry.ts';
import { writeCompressedEntry, writeStandardEntry, writeZeroEntry } from '../../src/qcow2/l2-entry.ts';
import { CLUSTER, type Crafted, craftImage, PLACE } from './crafted-image.ts';
import { memorySource, sparseSource } from './memory-source.ts';
import { DATA, DISK, extents, failure, imageWithData, open, readCluster } from './opened-image.ts';
import { noise } from './qemu-tools.ts';

type Damage = (image: Crafted) => void;
const setL2 =
  (bits: bigint): Damage =>
  ({ l2 }) =>
    l2.setBigUint64(8, bits);

const UNREADABLE: Record<string, [Damage, RegExp]> = {
  'data-offset-unaligned': [setL2((1n << 63n) | BigInt(DATA + CLUSTER + 512)), /not a multiple of 65536/],
  'data-past-end-of-file': [setL2((1n << 63n) | BigInt(DATA + 3 * CLUSTER)), /not all inside the file/],
  'data-at-2-to-the-52': [setL2((1n << 63n) | (1n << 52n)), /not all inside the file/],
  'data-at-2-to-the-56-less-a-cluster': [setL2((1n << 63n) | (2n ** 56n - 65_536n)), /2\^53 or more/],
  'copied-without-offset': [setL2(1n << 63n), /COPIED is set without an offset/],
  'reserved-bit-5': [setL2((1n << 63n) | BigInt(DATA + CLUSTER) | 32n), /reserved bits/],
  'reserved-bit-58': [setL2((1n << 63n) | (1n << 58n) | BigInt(DATA + CLUSTER)), /reserved bits/],
  'compressed-past-end-of-file': [setL2((1n << 62n) | BigInt(DATA + 3 * CLUSTER)), /compressed stream at .* lies past the end/],
  'compressed-with-copied': [setL2((3n << 62n) | BigInt(DATA + CLUSTER)), /COPIED is set on a compressed cluster/],
  'compressed-noise': [({ l2 }) => writeCompressedEntry(l2, 1, 16, DATA + CLUSTER, CLUSTER), /compressed cluster/],
};

describe('a broken L2 entry', () => {
  it.each(Object.entries(UNREADABLE))('%s fails its own cluster only', async (_name, [damage, message]) => {
    const crafted = imageWithData();
    damage(crafted);
    const image = await open(crafted.bytes);
    expect((await readCluster(image, 0)).equals(noise(CLUSTER, 1))).toBe(true);
    expect((await readCluster(image, 2)).equals(noise(CLUSTER, 3))).toBe(true);
    expect((await readCluster(image, 3)).equals(Buffer.alloc(CLUSTER))).toBe(true);
    const found = await failure(readCluster(image, 1));
    expect(found).toMatchObject({ code: 'QCOW2_INVALID', context: { image: 'crafted.qcow2', guest_offset: CLUSTER, length: CLUSTER } });
    expect(found.message).toMatch(message);
    expect(found.message).toMatch(/^crafted\.qcow2: the cluster at 65536 of the disk/);
    const small = await failure(image.read(new Uint8Array(10), CLUSTER + 100));
    expect(small.message).toMatch(message);
    await image.close();
  });

  it('gives the extents in front of it before it throws', async () => {
    const { bytes, l2 } = imageWithData();
    l2.setBigUint64(8, 1n << 63n);
    const found: Extent[] = [];
    const image = await open(bytes);
    await expect(async () => {
      for await (const extent of image.extents({ offset: 0, length: DISK })) found.push(extent);
    }).rejects.toThrow(/COPIED/);
    expect(found).toMatchObject([{ offset: 0, length: CLUSTER, kind: 'data' }]);
  });

  it('is read like qemu reads it where the reader is not strict', async () => {
    const reserved = imageWithData();
    reserved.l2.setBigUint64(8, (1n << 63n) | BigInt(DATA + CLUSTER) | 32n);
    expect((await readCluster(await open(reserved.bytes, { strict: false }), 1)).equals(noise(CLUSTER, 2))).toBe(true);
    const compressed = imageWithData();
    deflateRawSync(noise(CLUSTER, 4).fill(0, 100)).copy(compressed.bytes, DATA + CLUSTER + 77);
    compressed.l2.setBigUint64(8, (3n << 62n) | BigInt(DATA + CLUSTER + 77));
    expect((await readCluster(await open(compressed.bytes, { strict: false }), 1)).equals(noise(CLUSTER, 4).fill(0, 100))).toBe(true);
  });

  it('with the zero flag in version 2 cannot be read', async () => {
    const { bytes, view, l2 } = imageWithData();
    view.setUint32(4, 2);
    bytes.fill(0, 72, CLUSTER);
    l2.setBigUint64(8, 1n);
    const image = await open(bytes);
    expect((await failure(readCluster(image, 1))).message).toMatch(/version 2/);
    expect((await readCluster(image, 0)).equals(noise(CLUSTER, 1))).toBe(true);
  });
});

describe('a file that is too short', () => {
  it.each([1, 512, CLUSTER - 1])('by %i bytes fails the last cluster, and never gives zeros', async (missing) => {
    const { bytes } = imageWithData();
    const image = await open(bytes.subarray(0, bytes.length - missing));
    const found = await failure(readCluster(image, 2));
    expect(found.message).toMatch(/not all inside the file/);
    expect(found.context).toMatchObject({ guest_offset: 2 * CLUSTER });
    expect((await failure(image.read(new Uint8Array(1), 2 * CLUSTER))).message).toMatch(/not all inside the file/);
    expect((await readCluster(image, 1)).equals(noise(CLUSTER, 2))).toBe(true);
    await expect(extents(image)).rejects.toThrow(/not all inside/);
  });

  it('only behind the end of the disk is as good as whole', async () => {
    const { bytes } = imageWithData({ size: 2 * CLUSTER + 1000 });
    const image = await open(bytes.subarray(0, bytes.length - CLUSTER + 1000));
    expect((await readCluster(image, 2, 1000)).equals(noise(CLUSTER, 3).subarray(0, 1000))).toBe(true);
    const short = await open(bytes.subarray(0, bytes.length - CLUSTER + 999));
    expect((await failure(readCluster(short, 2, 1000))).message).toMatch(/not all inside/);
  });

  it('as an entry says it is fails that cluster, also right after another entry gave the same stream whole', async () => {
    const { bytes, l2 } = imageWithData();
    const stored = deflateRawSync(noise(CLUSTER, 5).fill(0, CLUSTER / 2));
    stored.copy(bytes, DATA);
    writeCompressedEntry(l2, 1, 16, DATA, stored.length);
    writeCompressedEntry(l2, 2, 16, DATA, 100);
    const image = await open(bytes);
    expect((await readCluster(image, 1, 10)).equals(noise(10, 5))).toBe(true);
    expect((await failure(readCluster(image, 2, 10))).message).toMatch(/ends too early/);
  });

  it('in the middle of a compressed stream fails that cluster', async () => {
    const { bytes, l2 } = imageWithData();
    const stored = deflateRawSync(noise(CLUSTER, 5).fill(0, CLUSTER / 2));
    const at = DATA + 2 * CLUSTER;
    stored.copy(bytes, at);
    writeCompressedEntry(l2, 2, 16, at, stored.length);
    expect((await readCluster(await open(bytes.subarray(0, at + stored.length)), 2)).equals(noise(CLUSTER, 5).fill(0, CLUSTER / 2))).toBe(
      true,
    );
    const found = await failure(readCluster(await open(bytes.subarray(0, at + stored.length - 10)), 2));
    expect(found.message).toMatch(/ends too early/);
    expect(found.context).toMatchObject({ host_offset: at, guest_offset: 2 * CLUSTER });
  });
});

const BROKEN_L1: Record<string, [(l1: DataView) => void, RegExp]> = {
  'l2-table-unaligned': [(l1) => l1.setBigUint64(0, (1n << 63n) | BigInt(PLACE.l2 * CLUSTER + 512)), /L1 entry 0: .*multiple/],
  'l2-table-past-end-of-file': [(l1) => writeL1Entry(l1, 0, 1024 * CLUSTER), /L1 entry 0: the L2 table .* past the end/],
  'l2-table-partly-past-end-of-file': [(l1) => writeL1Entry(l1, 0, (PLACE.data + 3) * CLUSTER), /past the end/],
  'l1-copied-without-offset': [(l1) => l1.setBigUint64(0, 1n << 63n), /COPIED/],
  'l1-reserved-bits': [(l1) => l1.setBigUint64(0, (1n << 63n) | BigInt(PLACE.l2 * CLUSTER) | 1n), /reserved bits/],
};

describe('a broken L1 entry', () => {
  it.each(Object.entries(BROKEN_L1))('%s fails its range and no other', async (_name, [damage, message]) => {
    const { bytes, l1 } = craftImage({ size: 2 * 512 * 1024 ** 2, l1Size: 2 }, 3);
    writeL1Entry(l1, 1, PLACE.l2 * CLUSTER);
    damage(l1);
    const image = await open(bytes);
    const found = await failure(readCluster(image, 5));
    expect(found.message).toMatch(message);
    expect(found.context).toMatchObject({ guest_offset: 0, length: 512 * 1024 ** 2 });
    expect((await readCluster(image, 8192)).equals(Buffer.alloc(CLUSTER))).toBe(true);
    await expect(extents(image)).rejects.toThrow(message);
  });

  it('behind a good one does not hide what is in front', async () => {
    const { bytes, l1 } = craftImage({ size: 2 * 512 * 1024 ** 2, l1Size: 2 }, 3);
    l1.setBigUint64(8, 1n << 63n);
    const image = await open(bytes);
    expect(await extents(image, 0, 512 * 1024 ** 2)).toEqual([{ offset: 0, length: 512 * 1024 ** 2, kind: 'absent' }]);
    await expect(extents(image)).rejects.toThrow(/L1 entry 1/);
  });

  it('with nothing but reserved bits is no table where the reader is not strict', async () => {
    const { bytes, l1 } = imageWithData();
    l1.setBigUint64(0, 1n << 57n);
    expect(await extents(await open(bytes, { strict: false }))).toEqual([{ offset: 0, length: DISK, kind: 'absent' }]);
    await expect(extents(await open(bytes))).rejects.toThrow(/reserved bits/);
  });

  it('with reserved bits is followed where the reader is not strict', async () => {
    const { bytes, l1 } = imageWithData();
    l1.setBigUint64(0, (1n << 63n) | BigInt(PLACE.l2 * CLUSTER) | 1n);
    expect((await readCluster(await open(bytes, { strict: false }), 0)).equals(noise(CLUSTER, 1))).toBe(true);
  });
});

describe('extended L2 entries', () => {
  function extendedImage(zero: number, allocated: number, bits = (1n << 63n) | BigInt(DATA)): Crafted {
    const image = craftImage({}, 1);
    image.view.setBigUint64(72, 16n);
    noise(CLUSTER, 6).copy(image.bytes, DATA);
    image.l2.setBigUint64(0, bits);
    image.l2.setUint32(8, zero >>> 0);
    image.l2.setUint32(12, allocated >>> 0);
    return image;
  }

  it('are read subcluster by subcluster', async () => {
    const image = await open(extendedImage(0b0010, 0b1101).bytes, { layer: true });
    const unit = CLUSTER / 32;
    expect(await extents(image, 0, CLUSTER)).toMatchObject([
      { offset: 0, length: unit, kind: 'data', stored: { offset: DATA } },
      { offset: unit, length: unit, kind: 'zero' },
      { offset: 2 * unit, length: 2 * unit, kind: 'data', stored: { offset: DATA + 2 * unit, length: 2 * unit } },
      { offset: 4 * unit, length: 28 * unit, kind: 'absent' },
    ]);
    const truth = noise(CLUSTER, 6);
    truth.fill(0, unit, 2 * unit).fill(0, 4 * unit);
    expect((await readCluster(image, 0)).equals(truth)).toBe(true);
  });

  it.each([
    ['a subcluster that is zero and allocated', 1, 1, undefined, /both allocated and zero/],
    ['allocation without an offset', 0, 1, 0n, /has no offset/],
    ['the zero flag of plain entries', 0, 1, (1n << 63n) | BigInt(DATA) | 1n, /zero flag/],
    ['subclusters on a compressed cluster', 0, 1, (1n << 62n) | BigInt(DATA), /has subclusters/],
    ['a subcluster behind the end of the file', 0, 2, (1n << 63n) | BigInt(DATA + CLUSTER), /not all inside the file/],
  ])('with %s cannot be read', async (_what, zero, allocated, bits, message) => {
    const image = await open(extendedImage(zero, allocated, bits).bytes);
    expect((await failure(readCluster(image, 0))).message).toMatch(message);
    expect((await readCluster(image, 1)).equals(Buffer.alloc(CLUSTER))).toBe(true);
  });
});

describe('images that would grow without end', () => {
  it('are refused also by who reads range by range', async () => {
    const { bytes, l1 } = craftImage({ size: 1024 ** 4, l1Size: 2048 }, 1);
    for (let index = 0; index < 2048; index += 1) writeL1Entry(l1, index, PLACE.l2 * CLUSTER);
    const image = await open(bytes);
    expect((await failure(extents(image, 0, CLUSTER))).message).toMatch(/maps more tables than its file/);
  });

  it('are refused where one L2 table serves a terabyte', async () => {
    const { bytes, l1 } = craftImage({ size: 1024 ** 4, l1Size: 2048 }, 1);
    for (let index = 0; index < 2048; index += 1) writeL1Entry(l1, index, PLACE.l2 * CLUSTER);
    const image = await open(bytes);
    expect((await failure(extents(image))).message).toMatch(/maps more tables than its file/);
  });

  it('are refused where one data cluster serves the whole disk', async () => {
    const { bytes, l2 } = craftImage({ size: 512 * 1024 ** 2 }, 1);
    for (let index = 0; index < 8192; index += 1) writeStandardEntry(l2, index, DATA);
    const image = await open(bytes);
    expect((await failure(extents(image))).message).toMatch(/maps more data than its file/);
    expect((await readCluster(image, 8000)).length).toBe(CLUSTER);
  });

  it('are refused where one compressed stream serves 64 TiB', async () => {
    const L1_ENTRIES = 131_072;
    const { bytes, l2 } = craftImage({ size: 64 * 1024 ** 4, l1Size: L1_ENTRIES }, 20);
    const stored = deflateRawSync(Buffer.alloc(CLUSTER));
    const at = (PLACE.data + 18) * CLUSTER;
    stored.copy(bytes, at);
    for (let index = 0; index < 8192; index += 1) writeCompressedEntry(l2, index, 16, at, stored.length);
    // The L1 table of 1 MiB lies behind everything else.
    const l1 = new DataView(new ArrayBuffer(L1_ENTRIES * 8));
    for (let index = 0; index < L1_ENTRIES; index += 1) writeL1Entry(l1, index, PLACE.l2 * CLUSTER);
    const whole = Buffer.concat([bytes, new Uint8Array(l1.buffer)]);
    whole.writeBigUInt64BE(BigInt(bytes.length), 40);
    const image = await open(whole);
    expect((await failure(extents(image))).message).toMatch(/used again and again/);
  });

  it('but not where a large disk is almost empty', async () => {
    const { bytes } = craftImage({ size: 64 * 1024 ** 4, l1Size: 131_072 }, 1);
    const pieces = new Map<number, Uint8Array>([
      [0, bytes.subarray(0, CLUSTER)],
      [CLUSTER, bytes.subarray(CLUSTER, 2 * CLUSTER)],
    ]);
    const l1Entry = new DataView(new ArrayBuffer(8));
    writeL1Entry(l1Entry, 0, 2 ** 40 - CLUSTER);
    const l2 = new DataView(new ArrayBuffer(CLUSTER));
    writeZeroEntry(l2, 0);
    const l1At = PLACE.l1 * CLUSTER;
    pieces.set(l1At + 131_071 * 8, new Uint8Array(l1Entry.buffer));
    pieces.set(2 ** 40 - CLUSTER, new Uint8Array(l2.buffer));
    const image = await openQcow2(sparseSource(2 ** 40, pieces));
    expect(await extents(image)).toEqual([
      { offset: 0, length: 131_071 * 512 * 1024 ** 2, kind: 'absent' },
      { offset: 131_071 * 512 * 1024 ** 2, length: CLUSTER, kind: 'zero' },
      { offset: 131_071 * 512 * 1024 ** 2 + CLUSTER, length: 512 * 1024 ** 2 - CLUSTER, kind: 'absent' },
    ]);
  });
});

describe('an opened image', () => {
  it('refuses ranges outside of the disk as a mistake of the caller', async () => {
    const image = await open(imageWithData().bytes);
    await expect(image.read(new Uint8Array(2), DISK - 1)).rejects.toThrow(/not inside the disk/);
    await expect(image.read(new Uint8Array(2), -1)).rejects.toThrow(/not inside the disk/);
    expect(() => image.extents({ offset: 0, length: DISK + 1 })).toThrow(/not inside the disk/);
  });

  it('tells what is odd about it', async () => {
    const { bytes, view } = imageWithData();
    view.setBigUint64(72, 3n);
    expect((await open(bytes)).warnings).toEqual([
      'the image was not closed cleanly; its refcounts may be wrong, its data are not affected',
      'the image is marked as corrupt',
    ]);
  });

  it('passes on what its source throws, and waits for the reads that are under way', async () => {
    const { bytes } = imageWithData();
    const source = memorySource(bytes);
    let running = 0;
    const image = await openQcow2({
      ...source,
      async read(buffer, offset) {
        running += 1;
        if (offset >= DATA) await new Promise((resolve) => setTimeout(resolve, offset === DATA ? 1 : 30));
        running -= 1;
        if (offset === DATA) throw new Error('the disk is broken');
        await source.read(buffer, offset);
      },
    });
    const { l2 } = imageWithData();
    expect(l2.byteLength).toBe(CLUSTER);
    await expect(image.read(Buffer.alloc(3 * CLUSTER), 0)).rejects.toThrow('the disk is broken');
    expect(running).toBe(0);
  });
});
