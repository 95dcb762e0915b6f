// The disk that is thrown away, against a model: a buffer to which the same is done.

import { fstatSync, mkdtempSync, readdirSync, readlinkSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { CLUSTER_STATE, ClusterStates } from '../../src/disk/cluster-states.ts';
import type { DiskReader } from '../../src/disk/disk-reader.ts';
import { openScratchDisk, SCRATCH_CLUSTER, type ScratchDisk } from '../../src/disk/scratch-disk.ts';
import { openScratchFile } from '../../src/disk/scratch-file.ts';
import { memoryDisk } from '../nbd/served-disk.ts';

const folder = mkdtempSync(join(tmpdir(), 'chainkeep-scratch-'));
const open: ScratchDisk[] = [];
afterEach(async () => {
  for (const disk of open.splice(0)) await disk.close();
});
afterAll(() => rmSync(folder, { recursive: true }));

async function scratch(size: number, base?: DiskReader, most = 2 * size + SCRATCH_CLUSTER): Promise<ScratchDisk> {
  const disk = await openScratchDisk({ size, ...(base && { base }), room: { folder, most, reserve: true } });
  open.push(disk);
  return disk;
}

const CLUSTERS = 9;
/** The last cluster of the disk is a short one, and the disk below ends in the middle of another. */
const SIZE = CLUSTERS * SCRATCH_CLUSTER - 3000;
const BASE_SIZE = 6 * SCRATCH_CLUSTER + 777;

type Act = { readonly kind: 'write' | 'zero' | 'trim' | 'read'; readonly offset: number; readonly length: number; readonly fill: number };

/** Places near the borders of clusters are where it can go wrong. */
const place = fc.oneof(
  fc.tuple(fc.nat(CLUSTERS), fc.integer({ min: -2, max: 2 })).map(([cluster, by]) => cluster * SCRATCH_CLUSTER + by),
  fc.nat(SIZE),
  fc.constant(SIZE),
);
const act: fc.Arbitrary<Act> = fc
  .record({
    kind: fc.constantFrom('write', 'write', 'zero', 'trim', 'read'),
    one: place,
    other: place,
    fill: fc.integer({ min: 1, max: 250 }),
  })
  .map(({ kind, one, other, fill }) => {
    const [offset = 0, end = 0] = [one, other].map((at) => Math.min(SIZE, Math.max(0, at))).sort((a, b) => a - b);
    return { kind, offset, length: end - offset, fill } as Act;
  });

/** Bytes that tell their place. */
function pattern({ offset, length, fill }: Act): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at++) bytes[at] = ((offset + at) % 5) + fill;
  return bytes;
}

async function change(disk: ScratchDisk, one: Act): Promise<void> {
  if (one.kind === 'write') await disk.write(pattern(one), one.offset);
  else if (one.kind === 'zero') await disk.zero(one.offset, one.length);
  else if (one.kind === 'trim') await disk.trim(one.offset, one.length);
}

function changeModel(model: Buffer, touched: Set<number>, { kind, offset, length, ...rest }: Act): void {
  const end = offset + length;
  const inside = (cluster: number): boolean =>
    offset <= cluster * SCRATCH_CLUSTER && end >= Math.min(SIZE, (cluster + 1) * SCRATCH_CLUSTER);
  if (kind === 'write') model.set(pattern({ kind, offset, length, ...rest }), offset);
  if (kind === 'zero') model.fill(0, offset, end);
  for (let cluster = 0; cluster < CLUSTERS; cluster++) {
    const start = cluster * SCRATCH_CLUSTER;
    if (kind === 'trim' && length > 0 && inside(cluster)) model.fill(0, start, Math.min(SIZE, start + SCRATCH_CLUSTER));
    const hit = Math.max(offset, start) < Math.min(end, start + SCRATCH_CLUSTER);
    if (hit && (kind === 'write' || kind === 'zero' || (kind === 'trim' && inside(cluster)))) touched.add(cluster);
  }
}

async function readAll(disk: DiskReader): Promise<Buffer> {
  const bytes = Buffer.alloc(disk.size, 0xaa);
  await disk.read(bytes, 0);
  return bytes;
}

/** What the extents say, and what a worker reads where they say that it may. */
async function readByExtents(disk: DiskReader): Promise<Buffer> {
  const bytes = Buffer.alloc(disk.size, 0xaa);
  let at = 0;
  for await (const { offset, length, kind, stored } of disk.extents({ offset: 0, length: disk.size })) {
    expect(offset).toBe(at);
    const part = bytes.subarray(offset, offset + length);
    if (kind !== 'data') part.fill(0);
    else if (stored) await stored.source.read(part, stored.offset);
    else await disk.read(part, offset);
    at += length;
  }
  expect(at).toBe(disk.size);
  return bytes;
}

describe('a scratch disk', () => {
  it.each([false, true])('reads as what was done to it, in any order (over a disk: %s)', async (over) => {
    await fc.assert(
      fc.asyncProperty(fc.array(act, { minLength: 1, maxLength: 25 }), async (acts) => {
        const base = memoryDisk(BASE_SIZE, 2 * SCRATCH_CLUSTER);
        const before = Buffer.from(base.bytes);
        const disk = await scratch(SIZE, over ? base : undefined);
        const model = Buffer.alloc(SIZE);
        if (over) base.bytes.copy(model);
        const touched = new Set<number>();
        for (const one of acts) {
          await change(disk, one);
          changeModel(model, touched, one);
          if (one.kind !== 'read') continue;
          const part = Buffer.alloc(one.length, 0xaa);
          await disk.read(part, one.offset);
          expect(part.equals(model.subarray(one.offset, one.offset + one.length))).toBe(true);
        }
        expect((await readAll(disk)).equals(model)).toBe(true);
        expect((await readByExtents(disk)).equals(model)).toBe(true);
        const told = [...disk.touched()].flatMap(({ offset, length }) =>
          Array.from({ length: Math.ceil(length / SCRATCH_CLUSTER) }, (_, index) => offset / SCRATCH_CLUSTER + index),
        );
        expect(told).toEqual([...touched].sort((a, b) => a - b));
        expect(base.bytes.equals(before)).toBe(true);
        await open.pop()?.close();
      }),
      { numRuns: 60 },
    );
  });

  it('loses nothing of what is written into one cluster from many sides at once', async () => {
    const base = memoryDisk(4 * SCRATCH_CLUSTER);
    base.beforeRead = () => new Promise((resolve) => setTimeout(resolve, 1));
    const disk = await scratch(4 * SCRATCH_CLUSTER, base);
    const model = Buffer.from(base.bytes);
    const writes = Array.from({ length: 256 }, (_, index) => ({ offset: index * 1024 + 13, bytes: Buffer.alloc(1000, index % 251) }));
    for (const { offset, bytes } of writes) model.set(bytes, offset);
    await Promise.all(writes.map(({ offset, bytes }) => disk.write(bytes, offset)));
    expect((await readAll(disk)).equals(model)).toBe(true);
  });

  it('keeps to the order of changes that overlap', async () => {
    const disk = await scratch(4 * SCRATCH_CLUSTER, memoryDisk(4 * SCRATCH_CLUSTER));
    const all = [disk.write(Buffer.alloc(100, 1), 10), disk.zero(0, 2 * SCRATCH_CLUSTER), disk.write(Buffer.alloc(10, 3), 50)];
    await Promise.all(all);
    const read = await readAll(disk);
    expect(read.subarray(0, 60)).toEqual(Buffer.concat([Buffer.alloc(50), Buffer.alloc(10, 3)]));
    expect(read.subarray(60, 2 * SCRATCH_CLUSTER).every((byte) => byte === 0)).toBe(true);
  });

  it('that cannot read a cluster from below does not write a part of it', async () => {
    const base = memoryDisk(4 * SCRATCH_CLUSTER);
    const disk = await scratch(4 * SCRATCH_CLUSTER, base);
    base.beforeRead = () => {
      throw new Error('rotten');
    };
    await expect(disk.write(Buffer.alloc(10, 1), 10)).rejects.toThrow('rotten');
    base.beforeRead = () => undefined;
    expect((await readAll(disk)).equals(base.bytes)).toBe(true);
    expect(disk.storedBytes).toBe(0);
  });

  it('takes no more than it may, and again as much when something was given back', async () => {
    const disk = await scratch(64 * SCRATCH_CLUSTER, undefined, 4 * SCRATCH_CLUSTER);
    const four = Buffer.alloc(4 * SCRATCH_CLUSTER, 7);
    await disk.write(four, 8 * SCRATCH_CLUSTER);
    await expect(disk.write(Buffer.alloc(1, 1), 0)).rejects.toMatchObject({ code: 'INSUFFICIENT_STORAGE' });
    await disk.write(four, 8 * SCRATCH_CLUSTER);
    await disk.trim(0, disk.size);
    expect(disk.storedBytes).toBe(0);
    await disk.write(four, 0);
    expect(disk.storedBytes).toBe(4 * SCRATCH_CLUSTER);
  });

  it('of 64 TiB is zeroed, trimmed and looked over at once', async () => {
    const tebi = 1024 ** 4;
    const states = new ClusterStates((64 * tebi) / SCRATCH_CLUSTER);
    states.set(1, states.runEnd(0, 2 ** 30) - 1, CLUSTER_STATE.ZERO);
    states.set(5_000_000, 5_000_001, CLUSTER_STATE.DATA);
    expect(states.runEnd(1, 2 ** 30)).toBe(5_000_000);
    expect(states.countData(0, 2 ** 30)).toBe(1);
  });
});

/** What the files take on the disk that this process has open, and that have no name any more. */
function bytesOfDeletedFiles(place: string): number {
  const opened = readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(`${place}/.scratch-`) ? [Number(fd)] : [];
    } catch {
      return []; // closed meanwhile
    }
  });
  return opened.reduce((sum, fd) => sum + fstatSync(fd).blocks * 512, 0);
}

describe('a scratch file', () => {
  it('has no name, and room that is kept free for it', async () => {
    const room = { folder: join(folder, 'made'), most: 512 * 1024 ** 2, reserve: true };
    const file = await openScratchFile(2 ** 40, room);
    expect(readdirSync(room.folder)).toEqual([]);
    expect(bytesOfDeletedFiles(room.folder)).toBeGreaterThanOrEqual(room.most);
    // Room is given free ahead of what is written, and never more than there is to write.
    file.keep(room.most - 2 ** 20);
    expect(bytesOfDeletedFiles(room.folder)).toBe(0);
    await file.close();
  });

  it('is refused with both numbers where there is no room for it', async () => {
    const { bavail, bsize } = statfsSync(folder);
    const most = bavail * bsize + 1024 ** 4;
    const refused = openScratchFile(2 ** 40, { folder, most, reserve: true });
    await expect(refused).rejects.toMatchObject({ code: 'INSUFFICIENT_STORAGE', context: { required_bytes: most } });
    await expect(refused).rejects.toThrow(/\d+ bytes may have to be kept in .*, \d+ are free there/);
  });
});
