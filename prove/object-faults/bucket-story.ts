// The reference story of backups in a bucket, told by the program itself in this process, and what must hold at its end.
// Its judges look past the program: at the bucket with the vendor's client, at the images with plain QEMU.

import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { openApp } from '../../src/app.ts';
import type { App } from '../../src/app-interface.ts';
import { isChainkeepError } from '../../src/plumbing/errors.ts';
import type { Random } from '../random.ts';
import { start } from '../user.ts';
import type { ObjectPlace } from './places.ts';

export const ACTIONS = ['full', 'incremental', 'verify', 'restore', 'delete'] as const;
export type Action = (typeof ACTIONS)[number];

const MIB = 2 ** 20;
/** Of every object of a backup in a place that locks them: a day, less the time of a story. */
const LEAST_LOCK_MS = 23 * 3_600_000;
const DISK_BYTES = 16 * MIB;
/** More than the parts that may wait in memory. */
const DATA_BYTES = 12 * MIB;

export interface BucketStory {
  run(action: Action): Promise<void>;
  /** Of an action that met a server which was gone: an error that says so, or it was done all the same. */
  judgeFailure(action: Action, error: unknown): Promise<readonly string[]>;
  judge(): Promise<readonly string[]>;
  close(): Promise<void>;
}

export interface StoryOptions {
  readonly folder: string;
  readonly place: ObjectPlace;
  readonly random: Random;
}

export async function tellBucketStory({ folder: parent, place, random }: StoryOptions): Promise<BucketStory> {
  const folder = mkdtempSync(join(parent, 'story-'));
  const app = await openApp({ home: join(folder, 'home') });
  const { type, settings, secrets } = place;
  await app.addRepository({ name: 'bucket', type, take_over: false, settings, secrets });
  return new Story(app, folder, place, random);
}

class Story implements BucketStory {
  readonly #app: App;
  readonly #folder: string;
  readonly #place: ObjectPlace;
  readonly #random: Random;
  /** Backups that must be there, with the disk as it was. */
  readonly #kept = new Map<string, string>();
  /** A delete of it failed once. Where that was behind the sidecar, the rest is rubbish, which a later run on the disk removes. */
  readonly #halfDeleted = new Set<string>();

  constructor(app: App, folder: string, place: ObjectPlace, random: Random) {
    this.#app = app;
    this.#folder = folder;
    this.#place = place;
    this.#random = random;
  }

  async run(action: Action): Promise<void> {
    if (action === 'full' || action === 'incremental') return this.#backup(action);
    if (action === 'verify') {
      const { checked, damaged } = await this.#app.verify({ repository: 'bucket', quick: false }, {});
      if (damaged.length > 0 || checked !== this.#kept.size)
        throw new Error(`a false alarm: ${checked} checked, ${JSON.stringify(damaged)}`);
      return;
    }
    const [id, disk] = this.#newest();
    if (action === 'restore') return this.#restore(id, disk);
    if (this.#place.lockedUntil) return this.#refuseDelete(id);
    const failedBefore = this.#halfDeleted.has(id);
    const before = await this.#app.listBackups({});
    // It may have been done by an attempt whose answer was lost.
    if (before.some((backup) => backup.backup_id === id)) {
      this.#halfDeleted.add(id);
      await this.#app.deleteBackup(id, { dry_run: false }, {});
      if (!failedBefore) this.#halfDeleted.delete(id);
    } else if (!failedBefore) throw new Error(`LOST: ${id} is not in the list, and nobody has deleted it`);
    this.#kept.delete(id);
  }

  /** Of what is locked: a delete must not be done, whatever the server answers. */
  async #refuseDelete(id: string): Promise<void> {
    try {
      await this.#app.deleteBackup(id, { dry_run: false }, {});
    } catch (error) {
      if (isChainkeepError(error, 'IMMUTABLE_RETENTION_ACTIVE')) return;
      throw error;
    }
    throw new Error(`LOST: ${id} was locked, and deleted`);
  }

  async #backup(action: 'full' | 'incremental'): Promise<void> {
    const disk = join(this.#folder, 'disk.raw');
    if (action === 'full' && this.#kept.size === 0)
      writeFileSync(disk, Buffer.concat([this.#random.bytes(DATA_BYTES), Buffer.alloc(DISK_BYTES - DATA_BYTES)]));
    if (action === 'incremental') this.#change(disk);
    const input = { vm: 'vm', disks: [{ disk_id: 0, source: disk }], repository: 'bucket', type: action } as const;
    const rest = { compression: 'none', format: 'raw', with_backing: false, dry_run: false } as const;
    try {
      const [outcome] = await this.#app.backup({ ...input, ...rest }, {});
      if (!outcome) throw new Error('a backup without an outcome');
      this.#keep(outcome.backup_id, disk);
    } catch (error) {
      // A backup that is complete, and could not be locked, is an error and a backup.
      const completed = this.#place.lockedUntil ? await this.#app.listBackups({ status: 'completed' }) : [];
      for (const { backup_id: id } of completed) if (!this.#kept.has(id)) this.#keep(id, disk);
      throw error;
    }
  }

  #keep(id: string, disk: string): void {
    const copy = join(this.#folder, `${id}.raw`);
    copyFileSync(disk, copy);
    this.#kept.set(id, copy);
  }

  #change(disk: string): void {
    const bytes = readFileSync(disk);
    this.#random.bytes(MIB).copy(bytes, this.#random.below(DATA_BYTES / MIB) * MIB);
    bytes.fill(0, 0, 65_536);
    writeFileSync(disk, bytes);
  }

  async #restore(id: string, disk: string): Promise<void> {
    const target = join(this.#folder, 'restored.raw');
    await this.#app.restore({ backup: id, target, format: 'raw', force: false, dry_run: false }, {});
    const same = readFileSync(target).equals(readFileSync(disk));
    rmSync(target);
    if (!same) throw new Error(`FALSE SUCCESS: ${id} was restored with other bytes`);
  }

  #newest(): [string, string] {
    const newest = [...this.#kept].at(-1);
    if (!newest) throw new Error('there is no backup');
    return newest;
  }

  async judgeFailure(action: Action, error: unknown): Promise<readonly string[]> {
    if (error === undefined) return [];
    if (!isChainkeepError(error)) return [`an unclear error: ${error instanceof Error ? error.stack : String(error)}`];
    if (!['STORE_FAILED', 'REPOSITORY_OFFLINE'].includes(error.code)) return [`${action} failed with ${error.code}: ${error.message}`];
    return [];
  }

  /** Everything that was reported is there and right, for the program and for plain QEMU, and nothing else is. */
  async judge(): Promise<readonly string[]> {
    const faults: string[] = [];
    const { checked, damaged } = await this.#app.verify({ repository: 'bucket', quick: false }, {});
    if (checked !== this.#kept.size) faults.push(`LOST: verify looked at ${checked} backups, ${this.#kept.size} were reported`);
    faults.push(...damaged.map((damage) => `verify finds damage: ${JSON.stringify(damage)}`));
    const objects = await this.#place.fetchAll();
    const due = [...this.#kept.keys()].flatMap((id) => [`${id}.qcow2`, `${id}.1.digests`, `${id}.json`]);
    const found = [...objects.keys()]
      .map((key) => key.slice(key.lastIndexOf('/') + 1))
      .filter((name) => name !== 'chainkeep-repository.json');
    for (const name of due) if (!found.includes(name)) faults.push(`LOST: ${name} is not in the bucket`);
    const isRubbish = (name: string): boolean => !name.endsWith('.json') && [...this.#halfDeleted].some((id) => name.startsWith(`${id}.`));
    const isLock = (name: string): boolean => [...this.#kept.keys()].some((id) => name.startsWith(`${id}.lock.`));
    for (const name of found) {
      if (!due.includes(name) && !isRubbish(name) && !isLock(name)) faults.push(`${name} in the bucket belongs to no backup`);
    }
    return [...faults, ...(await this.#judgeLocks([...objects.keys()])), ...(await this.#judgeImages(objects))];
  }

  async #judgeLocks(keys: readonly string[]): Promise<readonly string[]> {
    const { lockedUntil } = this.#place;
    if (!lockedUntil) return [];
    const ofBackups = keys.filter((key) => [...this.#kept.keys()].some((id) => key.includes(`/${id}.`)));
    const dates = await Promise.all(ofBackups.map(lockedUntil));
    return ofBackups
      .filter((_, index) => (dates[index] ?? 0) < Date.now() + LEAST_LOCK_MS)
      .map((key) => `UNPROTECTED: ${key} is not locked`);
  }

  async #judgeImages(objects: ReadonlyMap<string, Buffer>): Promise<readonly string[]> {
    const folder = mkdtempSync(join(this.#folder, 'fetched-'));
    for (const [key, bytes] of objects) {
      mkdirSync(dirname(join(folder, key)), { recursive: true });
      writeFileSync(join(folder, key), bytes);
    }
    const compares = [...this.#kept].map(async ([id, disk]) => {
      const key = [...objects.keys()].find((name) => name.endsWith(`${id}.qcow2`));
      if (key === undefined) return [];
      const { code, stdout, stderr } = await start(['qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', disk, join(folder, key)]).ended;
      return code === 0 ? [] : [`LOST: ${id} is not what was backed up: ${stdout}${stderr}`];
    });
    const faults = (await Promise.all(compares)).flat();
    rmSync(folder, { recursive: true });
    return faults;
  }

  async close(): Promise<void> {
    await this.#app.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
