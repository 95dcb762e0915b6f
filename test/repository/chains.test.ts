// Random chains against a model: whatever was backed up comes back, through us and through qemu-img alone.

import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { DiskReader } from '../../src/disk/disk-reader.ts';
import { overlay } from '../../src/disk/overlay.ts';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { openFileSource } from '../../src/plumbing/file-source.ts';
import { openImageFile } from '../../src/qcow2/open-image-file.ts';
import type { Sidecar } from '../../src/repository/sidecar-fields.ts';
import { qemuCheck, qemuImg } from '../qcow2/qemu-tools.ts';
import { bytesSource, changeDisk, opaqueDisk, type Random, randomNumbers, resizeDisk, writeDisk } from './model-disk.ts';
import { scratchFolder } from './scratch-folder.ts';
import { backUp, findDamage, makeRepository, restoredBytes, restoreTo, type TestRepository } from './scratch-repository.ts';

const scratch = scratchFolder();
/** More of them by hand: CHAINKEEP_STORIES=500. */
const STORIES = Number(process.env.CHAINKEEP_STORIES ?? (process.env.CHAINKEEP_TEST_ALL ? 100 : 6));
const FIRST = Number(process.env.CHAINKEEP_FIRST_STORY ?? 1);

const SHAPES = [
  { clusterSize: 512, mostBytes: 400_000 },
  { clusterSize: 512, mostBytes: 9 << 20 },
  { clusterSize: 1024, mostBytes: 600_000 },
  { clusterSize: 4096, mostBytes: 3 << 20 },
  { clusterSize: 65_536, mostBytes: 12 << 20 },
  { clusterSize: 65_536, mostBytes: 100_000 },
  { clusterSize: 2 << 20, mostBytes: 14 << 20 },
] as const;

interface Point {
  readonly sidecar: Sidecar;
  readonly disk: Buffer;
}

const SOURCES = ['sparse file', 'dense file', 'memory', 'opaque', 'qcow2', 'compressed qcow2'] as const;

async function openDisk(kind: (typeof SOURCES)[number], disk: Buffer, path: string, random: Random): Promise<DiskReader> {
  if (kind === 'memory') return openRawReader(bytesSource(disk));
  if (kind === 'opaque') return opaqueDisk(disk, 512 * (1 + random(300)));
  writeDisk(path, disk, kind !== 'dense file');
  if (kind === 'sparse file' || kind === 'dense file') return openRawReader(await openFileSource(path));
  const clusterSize = 512 << random(13);
  const compressed = kind === 'compressed qcow2' ? ['-c', '-o', `compression_type=${random(2) ? 'zstd' : 'zlib'}`] : [];
  qemuImg('convert', '-f', 'raw', '-O', 'qcow2', ...compressed, '-o', `cluster_size=${clusterSize}`, path, `${path}.qcow2`);
  const { layers } = await openImageFile(`${path}.qcow2`, 'qcow2', 'refuse');
  return overlay(layers);
}

/** qemu knows only sizes that are multiples of 512. */
function padded(disk: Buffer): Buffer {
  return Buffer.concat([disk, Buffer.alloc((512 - (disk.length % 512)) % 512)]);
}

async function tellStory(test: TestRepository, seed: number, path: string): Promise<Point[]> {
  const random = randomNumbers(seed);
  const shape = SHAPES[random(SHAPES.length)] ?? SHAPES[0];
  const { clusterSize } = shape;
  let disk: Buffer = Buffer.alloc(random(12) === 0 ? random(2) : 1 + random(shape.mostBytes));
  const points: Point[] = [];
  const past: Buffer[] = [];
  const steps = 3 + random(5);
  for (let step = 0; step < steps; step++) {
    if (step > 0 && random(4) === 0)
      disk = resizeDisk(disk, Math.max(0, disk.length + random(3 * clusterSize) - random(2) * clusterSize), random);
    else if (step > 1 && random(6) === 0) disk = Buffer.from(past[random(past.length)] ?? disk);
    changeDisk(disk, step === 0 ? random(30) : random(6), clusterSize, random);
    past.push(Buffer.from(disk));
    const kind = SOURCES[random(SOURCES.length)] ?? 'memory';
    // A qcow2 source has whole sectors only.
    const content = kind.includes('qcow2') ? padded(disk) : Buffer.from(disk);
    const reader = await openDisk(kind, content, `${path}-${step}.raw`, random);
    try {
      const type = (['auto', 'auto', 'incremental', 'differential', 'full'] as const)[points.length === 0 ? 0 : random(5)] ?? 'auto';
      const created = await backUp(test.repository, reader, { type, compression: random(2) ? 'zstd' : 'none', clusterSize });
      points.push({ sidecar: created.sidecar, disk: content });
    } finally {
      await reader.close();
    }
    rmSync(`${path}-${step}.raw`, { force: true });
    rmSync(`${path}-${step}.raw.qcow2`, { force: true });
  }
  return points;
}

async function checkPoint(test: TestRepository, { sidecar, disk }: Point, path: string): Promise<void> {
  const id = sidecar.backup_id;
  const bytes = await restoredBytes(test.repository, id, `${path}.restored`);
  expect(bytes.equals(disk), `restored ${id}`).toBe(true);
  const image = join(test.folder, `${id}.qcow2`);
  const { code, report } = qemuCheck(image);
  expect({ code, leaks: report.leaks ?? 0, errors: report['check-errors'] }, `check of ${id}`).toEqual({ code: 0, leaks: 0, errors: 0 });
}

/** Nothing of ours is asked: the folder is moved and qemu-img reads the chain. */
function checkByQemu(folder: string, { sidecar, disk }: Point, path: string): void {
  writeFileSync(`${path}.truth`, padded(disk));
  execFileSync('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', join(folder, `${sidecar.backup_id}.qcow2`), `${path}.truth`], {
    timeout: 20_000,
    stdio: 'pipe',
  });
  rmSync(`${path}.truth`);
}

describe('random chains', () => {
  it.each(Array.from({ length: STORIES }, (_, index) => FIRST + index))(
    'story %i: every restore point is what was backed up',
    async (seed) => {
      const path = scratch(`story-${seed}`);
      mkdirSync(path);
      const test = await makeRepository(join(path, 'repository'));
      const points = await tellStory(test, seed, join(path, 'disk'));
      for (const point of points) await checkPoint(test, point, join(path, 'point'));
      expect(await findDamage(test.repository)).toEqual([]);
      expect(await findDamage(test.repository, { quick: true })).toEqual([]);
      const newest = points.at(-1);
      if (newest) {
        await restoreTo(test.repository, newest.sidecar.backup_id, join(path, 'alone.qcow2'), 'qcow2');
        expect(qemuCheck(join(path, 'alone.qcow2')).code).toBe(0);
        writeFileSync(join(path, 'truth'), padded(newest.disk));
        qemuImg('compare', '-f', 'qcow2', '-F', 'raw', join(path, 'alone.qcow2'), join(path, 'truth'));
      }
      renameSync(test.folder, join(path, 'moved'));
      for (const point of points) checkByQemu(join(path, 'moved'), point, join(path, 'judge'));
      expect(readdirSync(path).sort()).toEqual(['alone.qcow2', 'moved', 'repository', 'truth']);
      rmSync(path, { recursive: true });
    },
    60_000,
  );
});
