// The reference story that store faults attack: a full, two incrementals and a differential of a small disk, and what is done with them.
// Each step begins from a copy of the story as it was before it; nothing fails here.

import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import type { Repository } from '../../src/repository/repository.ts';
import type { Sidecar } from '../../src/repository/sidecar-fields.ts';
import type { BlobStore } from '../../src/store/blob-store.ts';
import { bytesSource } from '../../test/repository/model-disk.ts';
import {
  backUp,
  findDamage,
  heldGuard,
  makeRepository,
  PLACE,
  restoreTo,
  type TestRepository,
} from '../../test/repository/scratch-repository.ts';
import type { Random } from '../random.ts';

const CLUSTER = 4096;

export interface KnownBackup {
  readonly id: string;
  /** What it reads as. */
  readonly disk: Buffer;
}

/** What a step says it has done; a step that fails throws. */
export interface Claim {
  readonly made?: KnownBackup;
  readonly deleted?: string;
  /** A file that must hold this disk. */
  readonly restored?: { readonly path: string; readonly disk: Buffer; readonly format: 'raw' | 'qcow2' };
}

export interface Scene {
  readonly test: TestRepository;
  /** The backups that are there before the step, oldest first. */
  readonly backups: readonly KnownBackup[];
  /** A folder for targets, empty. */
  readonly targets: string;
  /** What the next backup reads. */
  readonly next: Buffer;
}

export interface Step {
  readonly name: string;
  /** How many backups of the story are there before it. */
  readonly from: number;
  /** The newest backup is one that no sidecar names any more, and a temporary file lies there too. */
  readonly rubbish?: boolean;
  /** Which backup of the scene (by place in the list) a delete may take away. */
  readonly mayDelete?: number;
  run(scene: Scene, repository: Repository): Promise<Claim>;
}

function backupStep(from: number, type: 'full' | 'incremental' | 'differential', compression: 'none' | 'zstd'): Step {
  return {
    name: `${type} backup, ${compression}`,
    from,
    run: async ({ next }, repository) => {
      const { sidecar } = await backUp(repository, openRawReader(bytesSource(next)), { type, compression, clusterSize: CLUSTER });
      return { made: { id: sidecar.backup_id, disk: next } };
    },
  };
}

function restoreStep(index: number, format: 'raw' | 'qcow2'): Step {
  return {
    name: `restore to ${format}`,
    from: 4,
    run: async ({ targets, backups }, repository) => {
      const backup = at(backups, index);
      const path = join(targets, 'restored');
      await restoreTo(repository, backup.id, path, format);
      return { restored: { path, disk: backup.disk, format } };
    },
  };
}

export const STEPS: readonly Step[] = [
  backupStep(0, 'full', 'none'),
  backupStep(1, 'incremental', 'none'),
  backupStep(2, 'incremental', 'zstd'),
  backupStep(3, 'differential', 'zstd'),
  backupStep(4, 'full', 'zstd'),
  {
    name: 'verify',
    from: 4,
    run: async (_scene, repository) => {
      const damage = await findDamage(repository);
      if (damage.length > 0) throw new VerifyFoundDamage(damage.map(({ message }) => message).join('; '));
      return {};
    },
  },
  restoreStep(2, 'raw'),
  restoreStep(3, 'qcow2'),
  {
    name: 'delete',
    from: 4,
    mayDelete: 2,
    run: async ({ backups }, repository) => {
      const { id } = at(backups, 2);
      await repository.runDelete(await repository.planDelete(PLACE, id), heldGuard());
      return { deleted: id };
    },
  },
  {
    name: 'cleaning up behind a dead run',
    from: 3,
    rubbish: true,
    run: async (_scene, repository) => {
      await repository.removeRubbish(PLACE, heldGuard(), async () => 'dead');
      return {};
    },
  },
];

/** A verify that ends with damage has not said "good". */
export class VerifyFoundDamage extends Error {
  override readonly name = 'VerifyFoundDamage';
}

export interface StoreStory {
  /** A copy of the story as it is before the step. */
  before(step: Step): Promise<Scene>;
}

/** Takes the four backups once, below `folder`. */
export async function tellStoreStory(folder: string, random: Random): Promise<StoreStory> {
  const root = join(folder, 'story');
  const test = await makeRepository(root);
  const backups: KnownBackup[] = [];
  const keep = (): void => cpSync(root, join(folder, `story-${backups.length}`), { recursive: true });
  const disks = makeDisks(random);
  keep();
  for (const [index, type] of (['full', 'incremental', 'incremental', 'differential'] as const).entries()) {
    const disk = at(disks, index);
    const compression = index % 2 === 0 ? 'none' : 'zstd';
    const { sidecar } = await backUp(test.repository, openRawReader(bytesSource(disk)), { type, compression, clusterSize: CLUSTER });
    backups.push({ id: sidecar.backup_id, disk });
    keep();
  }
  const next = at(disks, 4);
  return { before: (step) => setScene(folder, step, backups, next) };
}

async function setScene(folder: string, step: Step, backups: readonly KnownBackup[], next: Buffer): Promise<Scene> {
  const root = join(folder, 'case');
  const targets = join(folder, 'targets');
  for (const path of [root, targets]) rmSync(path, { recursive: true, force: true });
  mkdirSync(targets);
  cpSync(join(folder, `story-${step.from}`), root, { recursive: true });
  const there = backups.slice(0, step.from);
  const test = await makeRepository(root);
  if (!step.rubbish) return { test, backups: there, targets, next };
  const dead = at(there, there.length - 1);
  rmSync(join(test.folder, `${dead.id}.json`));
  writeFileSync(join(test.folder, `${dead.id}.json.tmp-0123456789ab`), '{');
  return { test, backups: there.slice(0, -1), targets, next };
}

/** Five states of one disk: noise, text that compresses, zeros, and an end in the middle of a cluster. */
function makeDisks(random: Random): Buffer[] {
  const text = (clusters: number): Buffer =>
    Buffer.alloc(clusters * CLUSTER, `line ${random.below(1e9)} of a file that has many such lines\n`);
  let disk: Buffer = Buffer.concat([random.bytes(5 * CLUSTER), text(3), Buffer.alloc(2 * CLUSTER), Buffer.alloc(777, 1)]);
  const disks = [disk];
  while (disks.length < 5) {
    disk = Buffer.from(disk);
    disk.set(text(1), random.below(9) * CLUSTER);
    disk.set(random.bytes(CLUSTER + 100), random.below(8) * CLUSTER + random.below(CLUSTER));
    const zeros = random.below(9) * CLUSTER;
    disk.fill(0, zeros, zeros + CLUSTER);
    disks.push(disk);
  }
  return disks;
}

/** Runs a step on the scene through any store. */
export async function runStep(step: Step, scene: Scene, store: BlobStore): Promise<Claim> {
  return step.run(scene, await scene.test.through(store));
}

export function isThere(sidecars: readonly Sidecar[], id: string): boolean {
  return sidecars.some((sidecar) => sidecar.backup_id === id);
}

function at<Item>(items: readonly Item[], index: number): Item {
  const item = items[index];
  if (item === undefined) throw new RangeError(`the story has no item ${index}`);
  return item;
}
