// A repository in a scratch folder, with a clock and guards made for tests, and short words for what every test and campaign does with it.
// It must not need vitest: campaigns run without.

import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { DiskReader } from '../../src/disk/disk-reader.ts';
import { createFileWriter } from '../../src/disk/file-writer.ts';
import type { Clock } from '../../src/plumbing/clock.ts';
import { ChainkeepError } from '../../src/plumbing/errors.ts';
import type { Logger } from '../../src/plumbing/logger.ts';
import type { BackupRequest, BackupRun, CreatedBackup } from '../../src/repository/create-backup.ts';
import type { Guard } from '../../src/repository/guard.ts';
import { type DiskPlace, diskFolder } from '../../src/repository/layout.ts';
import { claimRepository, openRepository, type Repository, type RepositoryOptions } from '../../src/repository/repository.ts';
import { restoreBackup } from '../../src/repository/restore-backup.ts';
import type { NamedDamage } from '../../src/repository/verify-disk.ts';
import type { BlobStore } from '../../src/store/blob-store.ts';
import { openLocalStore } from '../../src/store/local/local-store.ts';

export const INSTALLATION = 'test-installation';
export const PLACE: DiskPlace = { vmContextId: 'vm-a', diskId: 0 };

/** Moves on by a second whenever it is asked, so that ids and times differ. */
export function steppingClock(start = Date.UTC(2026, 10, 22)): Clock {
  let now = start;
  return {
    now: () => {
      now += 1000;
      return now;
    },
    monotonic: () => now,
    boot: () => undefined,
  };
}

export interface TestGuard extends Guard {
  lose(): void;
}

/** A lease that is held until `lose` is called; `silent` loses it like a stopped process does, without its signal firing. */
export function heldGuard(options: { readonly silent?: boolean } = {}): TestGuard {
  const controller = new AbortController();
  const error = new ChainkeepError('LEASE_LOST', 'the test took the lease away');
  let held = true;
  return {
    signal: controller.signal,
    assertHeld: async () => {
      if (!held) throw error;
    },
    lose: () => {
      held = false;
      if (!options.silent) controller.abort(error);
    },
  };
}

export interface Logged {
  readonly level: string;
  readonly message: string;
}

export interface TestRepository {
  readonly repository: Repository;
  readonly store: BlobStore;
  readonly root: string;
  readonly id: string;
  readonly clock: Clock;
  readonly logged: readonly Logged[];
  /** The same folder through another store, such as one that fails. */
  through(store: BlobStore): Promise<Repository>;
  /** The folder of the disk in the file system. */
  readonly folder: string;
}

export type TestLocks = Pick<RepositoryOptions, 'immutability' | 'time'>;

export async function makeRepository(root: string, clock: Clock = steppingClock(), locks: TestLocks = {}): Promise<TestRepository> {
  mkdirSync(root, { recursive: true });
  const store = await openLocalStore(root, { create: true });
  const marker = await claimRepository({ store, clock, installationId: INSTALLATION, takeOver: false });
  const logged: Logged[] = [];
  const logger: Logger = { log: (level, message) => logged.push({ level, message }) };
  const open = (through: BlobStore): Promise<Repository> =>
    openRepository({ store: through, clock, logger, repositoryId: marker.repository_id, installationId: INSTALLATION, ...locks });
  return {
    repository: await open(store),
    store,
    root,
    id: marker.repository_id,
    clock,
    logged,
    through: open,
    folder: join(root, diskFolder(PLACE)),
  };
}

export function requestFor(reader: DiskReader, change: Partial<BackupRequest> = {}): BackupRequest {
  return {
    place: PLACE,
    vmName: 'a VM',
    externalId: null,
    restorePointId: 'restore-point',
    type: 'auto',
    compression: 'none',
    changeId: null,
    policyId: null,
    reader,
    sourceKind: 'file',
    checkSource: async () => undefined,
    metadata: {},
    damaged: new Set(),
    ...change,
  };
}

/** Plans and runs one backup of a disk. */
export async function backUp(
  repository: Repository,
  reader: DiskReader,
  change: Partial<BackupRequest> = {},
  run: Partial<BackupRun> = {},
): Promise<CreatedBackup> {
  const request = requestFor(reader, change);
  return repository.runBackup(request, await repository.planBackup(request), { guard: heldGuard(), ...run });
}

/** Restores to a new file at `target`. */
export async function restoreTo(
  repository: Repository,
  backupId: string,
  target: string,
  format: 'raw' | 'qcow2' = 'raw',
  place: DiskPlace = PLACE,
): Promise<void> {
  const opened = await repository.openBackup(place, backupId);
  try {
    const size = format === 'raw' ? opened.reader.size : 0;
    await restoreBackup(opened, await createFileWriter(target, { size, replace: false }), format, {});
  } finally {
    await opened.close();
  }
}

/** Restores to a file that is removed again; answers what it held. */
export async function restoredBytes(repository: Repository, backupId: string, target: string, place: DiskPlace = PLACE): Promise<Buffer> {
  await restoreTo(repository, backupId, target, 'raw', place);
  const bytes = readFileSync(target);
  rmSync(target);
  return bytes;
}

/** What verify has to say about a disk. */
export async function findDamage(
  repository: Repository,
  options: {
    readonly quick?: boolean;
    readonly only?: readonly string[];
    readonly place?: DiskPlace;
    readonly windowClusters?: number;
  } = {},
): Promise<NamedDamage[]> {
  const { quick = false, only, place = PLACE, ...run } = options;
  const found: NamedDamage[] = [];
  for await (const verified of repository.verifyDisk(place, { quick, ...run }, only)) {
    found.push(...verified.damage);
  }
  return found;
}
