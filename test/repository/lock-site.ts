// An immutable repository in a scratch folder, with a time that tests move, and the judge of what is protected there.

import { expect } from 'vitest';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import type { Clock } from '../../src/plumbing/clock.ts';
import type { BackupRequest, CreatedBackup } from '../../src/repository/create-backup.ts';
import type { Immutability } from '../../src/repository/immutability.ts';
import { DAY_MS, type LockTime } from '../../src/repository/lock-rules.ts';
import type { Repository } from '../../src/repository/repository.ts';
import type { BlobStore } from '../../src/store/blob-store.ts';
import { bytesSource } from './model-disk.ts';
import { backUp, heldGuard, makeRepository, PLACE, type TestRepository } from './scratch-repository.ts';

export const START = Date.UTC(2026, 10, 22, 10);

export const WEEK: Immutability = {
  type: 'linux_chattr',
  min_retention_days: 7,
  grace_period_days: 0,
  apply_to_full_backups: true,
  apply_to_incrementals: true,
  full_after_days: 7,
  full_after_backups: 30,
};

export const disk = (fill: number): Buffer => Buffer.alloc(256 * 1024, fill);

export class LockSite {
  now = START;
  /** Nothing expires. */
  jumped = false;
  #test: TestRepository | undefined;
  #places = 0;
  readonly #scratch: (name: string) => string;

  constructor(scratch: (name: string) => string) {
    this.#scratch = scratch;
  }

  get test(): TestRepository {
    if (!this.#test) throw new Error('there is a repository only after begin');
    return this.#test;
  }

  /** Another, empty repository; without settings one that is not immutable. */
  async begin(settings: Immutability | null = WEEK): Promise<void> {
    this.now = START;
    this.jumped = false;
    this.#places += 1;
    this.#test = await this.open(this.#scratch(`repo-${this.#places}`), settings);
  }

  open(root: string, settings: Immutability | null): Promise<TestRepository> {
    return makeRepository(root, this.#clock, { immutability: settings ?? undefined, time: () => this.#time() });
  }

  /** So that the folder can be removed. */
  async release(): Promise<void> {
    for await (const { name } of this.test.store.list('')) await this.test.store.release(name);
  }

  save(fill: number, change: Partial<BackupRequest> = {}, repository = this.test.repository): Promise<CreatedBackup> {
    return backUp(repository, openRawReader(bytesSource(disk(fill))), change);
  }

  /** Answers how much there was to do. */
  async sweep(repository = this.test.repository): Promise<number> {
    const plan = await repository.locks.look(PLACE);
    const { failures } = await repository.locks.run(plan, heldGuard());
    expect(failures).toEqual([]);
    return plan.steps.length;
  }

  /** After a sweep every backup is locked for its time, what it needs at least as long, and every file of it is protected; a second one finds nothing. */
  async expectProtected(repository: Repository, store: BlobStore): Promise<void> {
    await this.sweep(repository);
    expect(await this.sweep(repository)).toBe(0);
    const { sidecars } = await repository.readDisk(PLACE);
    const protections = await repository.locks.read(PLACE);
    for (const { backup_id: id, completed_at: at, parent_backup_id: parent } of sidecars) {
      const until = protections.get(id)?.lockedUntil ?? '';
      expect(Date.parse(until)).toBeGreaterThanOrEqual(Date.parse(at) + 7 * DAY_MS);
      if (parent !== null) expect(protections.get(parent)?.lockedUntil?.localeCompare(until)).toBeGreaterThanOrEqual(0);
      for await (const { name } of store.list(`vms/vm-a/disk-0/${id}.`)) {
        const found = await store.protectionOf(name);
        expect(found, name).toBeDefined();
        if (store.capabilities.retentionMark === undefined) expect(found?.until, name).toBeGreaterThanOrEqual(Date.parse(until));
      }
    }
  }

  async #time(): Promise<LockTime> {
    return { now: this.now, expireAt: this.jumped ? undefined : this.now, ...(this.jumped && { problem: 'it jumped' }) };
  }

  /** Moves by a second at each look, and by days where a test says so. */
  readonly #clock: Clock = {
    now: () => {
      this.now += 1000;
      return this.now;
    },
    monotonic: () => this.now,
    boot: () => undefined,
  };
}
