// The same disk in the many forms in which a backup may find it: raw files with and without holes, QCOW2 images, disks without a file.
// The images are made by QEMU, never by what is to be proved.

import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import type { DiskReader } from '../../src/disk/disk-reader.ts';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { bytesSource, opaqueDisk, writeDisk } from '../../test/repository/model-disk.ts';
import type { Random } from '../random.ts';

const LIMIT_MS = 60_000;
const PAGE = 4096;
const MOST_RUNS = 10;
/** What a file holds where it must not be seen. */
const HIDDEN = 165;

export type Source =
  | { readonly path: string; readonly format: 'raw' | 'qcow2'; readonly withBacking: boolean }
  /** A disk that no file holds; only for those who call the repository itself. */
  | { readonly reader: DiskReader };

export const FILE_KINDS = [
  'file with holes',
  'file without holes',
  'file with holes punched',
  'qcow2',
  'qcow2 with zero clusters',
  'compressed qcow2',
  'qcow2 over a backing file',
] as const;
export const MEMORY_KINDS = ['in memory', 'in memory, zeros known'] as const;
export type SourceKind = (typeof FILE_KINDS)[number] | (typeof MEMORY_KINDS)[number];

export interface DiskToWrite {
  readonly disk: Buffer;
  /** Any other content, for what an overlay lies on. */
  readonly other: Buffer;
  /** The files are this name and others that begin with it. */
  readonly path: string;
  readonly random: Random;
}

/** A disk of an image has whole sectors; `disk` must have them then. */
export function needsWholeSectors(kind: SourceKind): boolean {
  return kind.includes('qcow2');
}

export function writeSource(kind: SourceKind, toWrite: DiskToWrite): Source {
  const { disk, path, random } = toWrite;
  if (kind === 'in memory') return { reader: openRawReader(bytesSource(disk)) };
  if (kind === 'in memory, zeros known') return { reader: opaqueDisk(disk, 512 * random.between(1, 300)) };
  if (kind === 'qcow2 over a backing file') return { path: writeOverlay(toWrite), format: 'qcow2', withBacking: true };
  writeDisk(path, disk, kind === 'file with holes');
  if (kind === 'file with holes punched') punchHoles(disk, path, random);
  if (!needsWholeSectors(kind)) return { path, format: 'raw', withBacking: false };
  const image = `${path}.qcow2`;
  const compressed = kind === 'compressed qcow2';
  qemuImg('convert', '-f', 'raw', '-O', 'qcow2', ...(compressed ? ['-c'] : []), '-o', optionsOf(compressed, random), path, image);
  if (kind === 'qcow2 with zero clusters') writeZeroClusters(disk, image, random);
  return { path: image, format: 'qcow2', withBacking: false };
}

export function removeSource(path: string): void {
  for (const name of [path, `${path}.qcow2`, `${path}.middle`, `${path}.base`]) rmSync(name, { force: true });
}

function qemuImg(...args: readonly string[]): void {
  execFileSync('qemu-img', args, { timeout: LIMIT_MS, stdio: 'pipe' });
}

function qemuIo(format: 'raw' | 'qcow2', path: string, commands: readonly string[]): void {
  if (commands.length === 0) return;
  const args = ['-f', format, '-d', 'unmap', ...commands.flatMap((command) => ['-c', command]), path];
  const said = execFileSync('qemu-io', args, { timeout: LIMIT_MS, encoding: 'utf8', stdio: 'pipe' });
  // qemu-io ends well whatever became of its commands.
  if (/failed|error/i.test(said)) throw new Error(`qemu-io ${args.join(' ')}: ${said}`);
}

function optionsOf(compressed: boolean, random: Random): string {
  const clusterSize = `cluster_size=${512 << random.below(13)}`;
  if (compressed) return `${clusterSize},compression_type=${random.pick(['zlib', 'zstd'])}`;
  return random.pick([clusterSize, `${clusterSize},compat=0.10`, `${clusterSize},refcount_bits=1`, 'cluster_size=65536,extended_l2=on']);
}

function punchHoles(disk: Buffer, path: string, random: Random): void {
  const holes = someRuns(zeroPages(disk), random).filter(({ start, end }) => start % PAGE === 0 && end % PAGE === 0);
  qemuIo(
    'raw',
    path,
    holes.map(({ start, end }) => `discard ${start} ${end - start}`),
  );
}

/** Clusters marked as zero: never written, or written and then zeroed with their place in the file kept. */
function writeZeroClusters(disk: Buffer, image: string, random: Random): void {
  const commands = someRuns(zeroPages(disk), random).flatMap(({ start, end }) => {
    const zero = `write -z ${start} ${end - start}`;
    return random.chance(0.5) ? [zero] : [`write -P ${HIDDEN} ${start} ${end - start}`, zero];
  });
  qemuIo('qcow2', image, commands);
}

/**
 * An image that decides only what differs from the file it names, which may be shorter or longer. Between them may be an image that decides
 * nothing and is shorter than both: what the deepest one has behind its end must not shine through.
 */
function writeOverlay({ disk, other, path, random }: DiskToWrite): string {
  const image = `${path}.qcow2`;
  const base = { path: `${path}.base`, format: random.pick(['raw', 'qcow2']) };
  const middle = { path: `${path}.middle`, format: 'qcow2' };
  const threeLayers = random.chance(0.5);
  const seen = threeLayers ? other.subarray(0, 512 * random.below(other.length / 512 + 1)) : other;
  writeDisk(path, threeLayers ? Buffer.concat([seen, Buffer.alloc(disk.length, HIDDEN)]) : other, true);
  qemuImg('convert', '-f', 'raw', '-O', base.format, path, base.path);
  if (threeLayers) createOver(base, middle.path, seen.length, random);
  createOver(threeLayers ? middle : base, image, disk.length, random);
  const runs = joinRuns(differingPages(disk, seen));
  const pieces = runs.map((_, index) => `${path}.piece-${index}`);
  const commands = runs.map(({ start, end }, index) => {
    const bytes = disk.subarray(start, end);
    if (bytes.every((byte) => byte === 0)) return `write -z ${start} ${end - start}`;
    writeFileSync(pieces[index] ?? '', bytes);
    return `write -s ${pieces[index]} ${start} ${end - start}`;
  });
  qemuIo('qcow2', image, commands);
  for (const piece of pieces) rmSync(piece, { force: true });
  return image;
}

function createOver(below: { readonly path: string; readonly format: string }, image: string, size: number, random: Random): void {
  const options = `cluster_size=${512 << random.below(13)}`;
  qemuImg('create', '-q', '-f', 'qcow2', '-b', basename(below.path), '-F', below.format, '-o', options, image, String(size));
}

interface Run {
  readonly start: number;
  readonly end: number;
}

function zeroPages(disk: Buffer): Run[] {
  const zeros = Buffer.alloc(PAGE);
  return pagesOf(disk, (page) => page.equals(zeros.subarray(0, page.length)));
}

function differingPages(disk: Buffer, other: Buffer): Run[] {
  const base = Buffer.alloc(disk.length);
  other.copy(base);
  return pagesOf(disk, (page, start) => !page.equals(base.subarray(start, start + page.length)));
}

/** Pages for which `holds` is true, neighbours as one run. */
function pagesOf(disk: Buffer, holds: (page: Buffer, start: number) => boolean): Run[] {
  const runs: Run[] = [];
  for (let start = 0; start < disk.length; start += PAGE) {
    const page = disk.subarray(start, start + PAGE);
    if (!holds(page, start)) continue;
    const last = runs.at(-1);
    if (last?.end === start) runs[runs.length - 1] = { start: last.start, end: start + page.length };
    else runs.push({ start, end: start + page.length });
  }
  return runs;
}

function someRuns(runs: readonly Run[], random: Random): Run[] {
  if (runs.length === 0) return [];
  return Array.from({ length: random.between(1, MOST_RUNS) }, () => random.pick(runs)).map(({ start, end }) => {
    const pages = Math.floor((end - start) / PAGE);
    if (pages < 2 || random.chance(0.5)) return { start, end };
    const first = start + random.below(pages) * PAGE;
    return { start: first, end: Math.min(end, first + random.between(1, pages) * PAGE) };
  });
}

/** At most so many as one command line should have: the closest ones are written together. */
function joinRuns(runs: readonly Run[]): Run[] {
  const joined = [...runs];
  while (joined.length > MOST_RUNS) {
    const gap = (index: number): number => (joined[index + 1]?.start ?? Number.POSITIVE_INFINITY) - (joined[index]?.end ?? 0);
    const closest = joined.reduce((best, _, index) => (gap(index) < gap(best) ? index : best), 0);
    const [first, second] = joined.slice(closest, closest + 2);
    if (first && second) joined.splice(closest, 2, { start: first.start, end: second.end });
  }
  return joined;
}
