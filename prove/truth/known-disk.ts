// Disks whose every byte is known: what a restore point must read as, kept in pages that points share, and how a disk changes by chance.
// It must not know how anything is stored.

import { changeDisk, resizeDisk } from '../../test/repository/model-disk.ts';
import type { Random } from '../random.ts';

const PAGE = 65_536;
const SECTOR = 512;

export interface KnownDisk {
  /** Bytes, of any number. */
  readonly size: number;
  readonly pages: readonly Buffer[];
}

/** Pages that did not change since `before` are kept once: sixty points of a disk are not sixty disks in memory. */
export function remember(disk: Buffer, before?: KnownDisk): KnownDisk {
  const pages: Buffer[] = [];
  for (let at = 0; at < disk.length; at += PAGE) {
    const page = disk.subarray(at, at + PAGE);
    const old = before?.pages[pages.length];
    pages.push(old?.equals(page) ? old : Buffer.from(page));
  }
  return { size: disk.length, pages };
}

/** A copy that may be changed. */
export function bytesOf(known: KnownDisk): Buffer {
  return Buffer.concat(known.pages);
}

/** QEMU knows only sizes that are multiples of 512; what it adds is zero. */
export function padded(disk: Buffer): Buffer {
  return Buffer.concat([disk, Buffer.alloc((SECTOR - (disk.length % SECTOR)) % SECTOR)]);
}

/** Says where `found` is not the disk; undefined where it is. */
export function differenceOf(found: Buffer, expected: Buffer): string | undefined {
  if (found.length !== expected.length) return `${found.length} bytes instead of ${expected.length}`;
  if (found.equals(expected)) return undefined;
  const at = expected.findIndex((byte, index) => found[index] !== byte);
  return `byte ${at} is ${found[at]} instead of ${expected[at]}`;
}

/** How many clusters an image on `parent` must hold: those that differ from it and are not zero. */
export function countNewClusters(disk: Buffer, parent: Buffer, clusterSize: number): number {
  const zeros = Buffer.alloc(clusterSize);
  let count = 0;
  for (let at = 0; at < disk.length; at += clusterSize) {
    const cluster = clusterAt(disk, at, clusterSize);
    if (!cluster.equals(zeros) && !cluster.equals(clusterAt(parent, at, clusterSize))) count++;
  }
  return count;
}

/** Behind the end of a disk there are zeros. */
function clusterAt(disk: Buffer, at: number, clusterSize: number): Buffer {
  const cluster = disk.subarray(at, at + clusterSize);
  return cluster.length === clusterSize ? cluster : Buffer.concat([cluster], clusterSize);
}

type Change = (disk: Buffer, past: readonly KnownDisk[], grain: number, random: Random) => void;

/** Each is a way in which chains of others have gone wrong. */
const CHANGES: readonly (readonly [weight: number, Change])[] = [
  [8, () => undefined],
  [45, (disk, _, grain, random) => changeDisk(disk, random.between(1, 6), grain, (limit) => random.below(limit))],
  // Zeros over data, and over zeros.
  [15, (disk, _, grain, random) => void disk.fill(0, ...rangeIn(disk, grain, random))],
  // A, then B or zeros, then A again: in a part of the disk, and in all of it.
  [18, (disk, past, grain, random) => bringBack(disk, past, rangeIn(disk, grain, random), random)],
  [5, (disk, past, _, random) => bringBack(disk, past, [0, disk.length], random)],
  [3, (disk) => void disk.fill(0)],
];

interface Growth {
  /** Bytes in which most changes are made. */
  readonly grain: number;
  readonly mayShrink: boolean;
}

/** The disk as it is at the next backup: changed, or not, sometimes grown, rarely shrunk. */
export function nextDisk(before: Buffer, past: readonly KnownDisk[], { grain, mayShrink }: Growth, random: Random): Buffer {
  const disk = mayShrink && random.chance(0.08) ? shrink(before, random) : grow(before, grain, random);
  for (let count = random.between(1, 3); count > 0; count--) pickWeighted(CHANGES, random)(disk, past, grain, random);
  return disk;
}

function shrink(disk: Buffer, random: Random): Buffer {
  return Buffer.from(disk.subarray(0, random.below(disk.length + 1)));
}

function grow(disk: Buffer, grain: number, random: Random): Buffer {
  const more = random.chance(0.2) ? random.below(3 * grain + SECTOR) : 0;
  return resizeDisk(disk, disk.length + more, (limit) => random.below(limit));
}

function bringBack(disk: Buffer, past: readonly KnownDisk[], [start, end]: readonly [number, number], random: Random): void {
  if (past.length > 0) disk.set(bytesOf(random.pick(past)).subarray(start, end), Math.min(start, disk.length));
}

/** On borders of clusters, or anywhere. */
function rangeIn(disk: Buffer, grain: number, random: Random): [start: number, end: number] {
  const somewhere = random.below(disk.length + 1);
  const start = random.chance(0.5) ? somewhere : Math.floor(somewhere / grain) * grain;
  const length = random.chance(0.5) ? random.below(6 * grain) : grain * random.between(1, 8);
  return [start, Math.min(disk.length, start + length)];
}

function pickWeighted<Item>(items: readonly (readonly [weight: number, Item])[], random: Random): Item {
  let left = random.fraction() * items.reduce((sum, [weight]) => sum + weight, 0);
  for (const [weight, item] of items) {
    left -= weight;
    if (left < 0) return item;
  }
  return random.pick(items)[1];
}
