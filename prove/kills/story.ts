// The reference story: a full, three incrementals, a differential, a second repository, a delete. Each step's state is kept, so that it can be
// killed many times.
// It must not kill anything: it runs once, untouched, and its points are counted on the way.

import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BackupInput } from '../../src/app-interface.ts';
import { completedBackups, type Kept, withApp } from '../judge.ts';
import type { Random } from '../random.ts';
import { User } from '../user.ts';
import { countPoints, type Point } from './points.ts';

const MIB = 1 << 20;
const CLUSTER = 65_536;
const TYPES = ['full', 'incremental', 'incremental', 'incremental', 'differential'] as const;

/** A command, the state of the home in which it is given, and what there is in it. */
export interface Step {
  readonly name: string;
  readonly args: readonly string[];
  readonly state: string;
  /** The backups that are completed before it. */
  readonly kept: readonly Kept[];
  /** How many jobs there were before it. */
  readonly jobs: number;
  /** The disk that it backs up, the backup that it deletes, or the folder that it makes a repository. */
  readonly makes?: string;
  readonly deletes?: string;
  readonly registers?: string;
  readonly points: readonly Point[];
}

/** The home is always in the same place, for a repository knows where it lies; the states are copies of it. */
export class Story {
  readonly user: User;
  readonly #folder: string;
  steps: readonly Step[] = [];

  constructor(folder: string) {
    this.#folder = folder;
    this.user = new User(join(folder, 'home'));
  }

  path(name: string): string {
    return join(this.#folder, name);
  }

  /** Runs the story, counting the points of each step. */
  async tell(random: Random): Promise<void> {
    const { user } = this;
    mkdirSync(user.home);
    let content = random.bytes(MIB);
    const kept: Kept[] = [];
    const steps: Step[] = [];
    for (const [index, type] of TYPES.entries()) {
      if (index > 0) content = change(content, random);
      const disk = this.path(`disk-${index}.img`);
      writeFileSync(disk, content);
      const args = ['backup', disk, '--vm', 'vm', '--type', type, '--quiet'];
      const before = { name: `${type} backup ${index}`, args, state: this.#save(index), kept: [...kept], jobs: index, makes: disk };
      steps.push({ ...before, points: await countPoints(user, args) });
      kept.push({ id: await this.#newest(), disk });
    }
    const id = await this.#newest();
    const after = { state: this.#save(TYPES.length), kept: [...kept], jobs: TYPES.length };
    const registers = this.path('new/place');
    const add = ['repo', 'add', 'second', '--path', registers, '--quiet'];
    steps.push({ ...after, name: 'repo add', args: add, registers, points: await countPoints(user, add) });
    this.putBack(after.state);
    const args = ['delete', id, '--quiet'];
    steps.push({ ...after, name: 'delete', args, deletes: id, points: await countPoints(user, args) });
    this.steps = steps;
    writeFileSync(this.next, Buffer.concat([change(content, random), random.bytes(3 * MIB)]));
    writeFileSync(this.large, Buffer.concat([change(content, random), random.bytes(3 * MIB)]));
  }

  /** What the disk is when it is backed up after a kill. */
  get next(): string {
    return this.path('disk-next.img');
  }

  /** A disk that is backed up long enough to be killed on the way. */
  get large(): string {
    return this.path('disk-large.img');
  }

  /** The home as it was before the step. */
  putBack(state: string): void {
    for (const folder of [this.user.home, this.path('new')]) rmSync(folder, { recursive: true, force: true });
    cpSync(state, this.user.home, { recursive: true });
  }

  #save(index: number): string {
    const state = this.path(`state-${index}`);
    cpSync(this.user.home, state, { recursive: true });
    return state;
  }

  async #newest(): Promise<string> {
    const [newest] = await withApp(this.user.home, completedBackups);
    if (!newest) throw new Error('the story made no backup');
    return newest.backup_id;
  }
}

export function backupOf(disk: string): BackupInput {
  return {
    vm: 'vm',
    disks: [{ disk_id: 0, source: disk }],
    type: 'auto',
    compression: 'zstd',
    format: 'raw',
    with_backing: false,
    dry_run: false,
  };
}

/** Three clusters with other bytes, one with zeros. */
function change(content: Buffer<ArrayBuffer>, random: Random): Buffer<ArrayBuffer> {
  const changed = Buffer.from(content);
  const place = (): number => random.below(changed.length / CLUSTER) * CLUSTER;
  for (let count = 0; count < 3; count++) random.bytes(CLUSTER).copy(changed, place());
  const zeros = place();
  return changed.fill(0, zeros, zeros + CLUSTER);
}
