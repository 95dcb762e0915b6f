// The Repository: backups of disks over any store. It needs no database; who may write is said by a guard that comes in.

import { type Blake3, loadBlake3 } from '../plumbing/blake3.ts';
import { type Clock, isoTime, newId } from '../plumbing/clock.ts';
import { ChainkeepError, isChainkeepError } from '../plumbing/errors.ts';
import type { Logger } from '../plumbing/logger.ts';
import type { BlobStore, StoreCapabilities, StoreCapacity } from '../store/blob-store.ts';
import { SELF_TEST_PREFIX } from '../store/self-test-prefix.ts';
import { readOnly } from '../store/wrap/read-only.ts';
import { type BackupPlan, type BackupRequest, type BackupRun, type CreatedBackup, planBackup, runBackup } from './create-backup.ts';
import { type DeletePlan, type Fate, planDelete, removeRubbish, runDelete } from './delete-backup.ts';
import { type DiskFolder, readDiskFolder, readSidecar } from './disk-folder.ts';
import type { Guard } from './guard.ts';
import { type Immutability, isSameImmutability, strongest } from './immutability.ts';
import { type DiskPlace, diskFolder, EVERY_DISK, MARKER_NAME, parseFileName, sidecarFile } from './layout.ts';
import type { LockTime } from './lock-rules.ts';
import { type Marker, readMarker, writeMarker } from './marker.ts';
import { type OpenedBackup, openBackup } from './open-backup.ts';
import type { KnownProtection } from './refuse-protected.ts';
import type { RepositoryContext } from './repository-context.ts';
import { openLocks, type RepositoryLocks, timeOfClocks } from './repository-locks.ts';
import { type ListedDisk, type RepositorySurvey, type ScannedDisk, scanDisk, surveyRepository, walkDisks } from './scan-disk.ts';
import type { Sidecar } from './sidecar-fields.ts';
import { type VerifiedBackup, verifyDisk } from './verify-disk.ts';
import type { VerifyRun } from './verify-image.ts';

export interface RepositoryOptions {
  readonly store: BlobStore;
  readonly clock: Clock;
  readonly logger: Logger;
  /** The repository expected in this place. */
  readonly repositoryId: string;
  /** This installation; a repository of another one is read only. */
  readonly installationId: string;
  /** What the catalog asks for; the marker may ask for more. */
  readonly immutability?: Immutability | undefined;
  /** What locks are judged by. Default: the given clock and that of the store. */
  readonly time?: () => Promise<LockTime>;
}

export interface Repository {
  readonly id: string;
  readonly readOnly: boolean;
  readonly capabilities: StoreCapabilities;
  readonly locks: RepositoryLocks;
  planBackup(request: BackupRequest, signal?: AbortSignal): Promise<BackupPlan>;
  runBackup(request: BackupRequest, plan: BackupPlan, run: BackupRun): Promise<CreatedBackup>;
  getBackup(place: DiskPlace, backupId: string): Promise<Sidecar>;
  /** Is its sidecar there at this moment, good or damaged? */
  hasBackup(place: DiskPlace, backupId: string): Promise<boolean>;
  /** What lies in the folder of a disk: backups, damage, rubbish. */
  readDisk(place: DiskPlace): Promise<DiskFolder>;
  listDisks(): Promise<readonly DiskPlace[]>;
  /** Every disk with everything in its folder, out of one listing; for looks that are over before it is stale. */
  walkDisks(): AsyncIterable<ListedDisk>;
  /** What there is to scan. */
  survey(): Promise<RepositorySurvey>;
  /** Like `readDisk`, with how the backups stand on each other, and what protects them. */
  scanDisk(place: DiskPlace): Promise<ScannedDisk>;
  /** `hint`: ids of the backups it stands on, where they are known; saves a listing. */
  openBackup(place: DiskPlace, backupId: string, hint?: readonly string[]): Promise<OpenedBackup>;
  verifyDisk(place: DiskPlace, run: VerifyRun, only?: readonly string[]): AsyncIterable<VerifiedBackup>;
  planDelete(place: DiskPlace, backupId: string, known?: KnownProtection): Promise<DeletePlan>;
  runDelete(plan: DeletePlan, guard: Guard): Promise<void>;
  removeRubbish(place: DiskPlace, guard: Guard, fate: (backupId: string) => Promise<Fate>): Promise<readonly string[]>;
  getStorageInfo(): Promise<StoreCapacity | undefined>;
  close(): Promise<void>;
}

/** Throws REPOSITORY_OFFLINE when the marker is not there, REPOSITORY_INVALID when it is of another repository. */
export async function openRepository(options: RepositoryOptions): Promise<Repository> {
  const blake3 = await loadBlake3();
  const marker = await expectMarker(options, blake3);
  const isOurs = marker.owner === options.installationId;
  const store = isOurs ? options.store : readOnly(options.store, () => foreign(options.store, marker));
  const immutability = strongest(options.immutability, marker.immutability ?? undefined);
  const context: RepositoryContext = {
    store,
    blake3,
    clock: options.clock,
    logger: options.logger,
    immutability,
    time: options.time ?? (() => timeOfClocks(options.clock, store)),
    assertOwned: async () => asOwner(await expectMarker(options, blake3), options),
  };
  return {
    id: marker.repository_id,
    readOnly: !isOurs,
    get capabilities() {
      return store.capabilities;
    },
    locks: openLocks(context),
    planBackup: (request, signal) => planBackup(context, request, signal),
    runBackup: (request, plan, run) => runBackup(context, request, plan, run),
    getBackup: (place, backupId) => readSidecar(store, blake3, place, backupId),
    hasBackup: async (place, backupId) => (await store.stat(diskFolder(place) + sidecarFile(backupId))) !== undefined,
    readDisk: (place) => readDiskFolder(store, blake3, place),
    listDisks: () => listDisks(store),
    walkDisks: () => walkDisks(store),
    survey: () => surveyRepository(store),
    scanDisk: (place) => scanDisk(store, blake3, place),
    openBackup: (place, backupId, hint) => openBackup(context, place, backupId, hint),
    verifyDisk: (place, run, only) => verifyDisk(context, place, run, only),
    planDelete: (place, backupId, known) => planDelete(context, place, backupId, known),
    runDelete: (plan, guard) => runDelete(context, plan, guard),
    removeRubbish: (place, guard, fate) => removeRubbish(context, place, guard, fate),
    getStorageInfo: () => store.capacity(),
    close: () => store.close(),
  };
}

export interface ClaimOptions {
  readonly store: BlobStore;
  readonly clock: Clock;
  readonly installationId: string;
  /** Become the owner of a repository that another installation owns. */
  readonly takeOver: boolean;
  /** What the marker is to ask for; one that is there may ask for more, and goes on to. */
  readonly immutability?: Immutability | undefined;
}

/**
 * Makes the place a repository of this installation, or finds the one that is there. Throws REPOSITORY_NOT_EMPTY for a folder with
 * other files and REPOSITORY_FOREIGN for a repository of another installation, unless it is taken over.
 */
export async function claimRepository(options: ClaimOptions): Promise<Marker> {
  const marker = await claim(options, await loadBlake3());
  // What a killed claim has left. A claim that is under way elsewhere has lost already: the marker is there.
  await options.store.sweep(MARKER_NAME, () => true);
  return marker;
}

/** What a claim would find: a marker, or undefined for a place that is empty or not there. Throws what the claim would; writes nothing. */
export async function inspectPlace({
  store,
  installationId,
  takeOver,
}: Omit<ClaimOptions, 'clock' | 'immutability'>): Promise<Marker | undefined> {
  const blake3 = await loadBlake3();
  const found = (await readMarker(store, blake3)) ?? (await markerOrEmpty(store, blake3));
  if (found && found.owner !== installationId && !takeOver) throw foreign(store, found);
  return found;
}

/** For a place in which no marker was seen: undefined where it is empty, and the marker that somebody has made meanwhile. */
async function markerOrEmpty(store: BlobStore, blake3: Blake3): Promise<Marker | undefined> {
  try {
    await refuseForeignFiles(store);
    return undefined;
  } catch (error) {
    const made = isChainkeepError(error, 'REPOSITORY_NOT_EMPTY') ? await readMarker(store, blake3) : undefined;
    if (!made) throw error;
    return made;
  }
}

/** Takes a claim back: a marker that it made is removed, one that it changed is as before. The caller knows that nobody relies on it. */
export async function releaseClaim(store: BlobStore, before: Marker | undefined): Promise<void> {
  if (before) await writeMarker(store, await loadBlake3(), before, { replace: true });
  else await store.delete(MARKER_NAME);
}

async function claim(options: ClaimOptions, blake3: Blake3): Promise<Marker> {
  const { store, clock, installationId } = options;
  const found = await readMarker(store, blake3);
  if (!found) {
    const marker: Marker = {
      format: 1,
      repository_id: newId(clock),
      owner: installationId,
      immutability: options.immutability ?? null,
      created_at: isoTime(clock.now()),
    };
    try {
      await refuseForeignFiles(store);
      await writeMarker(store, blake3, marker, { replace: false });
      return marker;
    } catch (error) {
      // Somebody may have been faster, and may have cleared our half-written marker away: it is a repository now. A marker of ours that could not
      // be made durable is none.
      const made = await readMarker(store, blake3);
      if (!made || made.repository_id === marker.repository_id) throw error;
      return claim(options, blake3);
    }
  }
  if (found.owner !== installationId && !options.takeOver) throw foreign(store, found);
  const immutability = strongest(options.immutability, found.immutability ?? undefined) ?? null;
  const asWanted = isSameImmutability(immutability ?? undefined, found.immutability ?? undefined);
  if (found.owner === installationId && asWanted) return found;
  const taken = { ...found, owner: installationId, immutability };
  await writeMarker(store, blake3, taken, { replace: true });
  return taken;
}

async function refuseForeignFiles(store: BlobStore): Promise<void> {
  for await (const { name } of store.list('')) {
    // Somebody tries the place at this moment, or was killed while trying it.
    if (name.startsWith(SELF_TEST_PREFIX)) continue;
    throw new ChainkeepError(
      'REPOSITORY_NOT_EMPTY',
      `${store.place} holds files and is not a repository (for one: ${JSON.stringify(name)})`,
      {
        advice: 'choose an empty or a new folder',
        context: { place: store.place },
      },
    );
  }
}

async function expectMarker(options: RepositoryOptions, blake3: Blake3): Promise<Marker> {
  const { store, repositoryId } = options;
  const marker = await readMarker(store, blake3);
  if (!marker) {
    throw new ChainkeepError('REPOSITORY_OFFLINE', `the marker of the repository is not in ${store.place}`, {
      advice: 'is the disk mounted? nothing is written to a place without its marker',
      context: { place: store.place, repository_id: repositoryId },
      retryable: true,
    });
  }
  if (marker.repository_id === repositoryId) return marker;
  throw new ChainkeepError('REPOSITORY_INVALID', `${store.place} holds repository ${marker.repository_id}, not ${repositoryId}`, {
    advice: 'is another disk mounted there? register that repository under a name of its own',
    context: { place: store.place, repository_id: repositoryId },
  });
}

function asOwner(marker: Marker, { store, installationId }: RepositoryOptions): Marker {
  if (marker.owner !== installationId) throw foreign(store, marker);
  return marker;
}

function foreign(store: BlobStore, marker: Marker): ChainkeepError {
  return new ChainkeepError('REPOSITORY_FOREIGN', `the repository in ${store.place} belongs to another installation of Chainkeep`, {
    advice: 'only one installation writes to a repository: take it over with repo add --take-over when the other one is gone',
    context: { place: store.place, repository_id: marker.repository_id, owner: marker.owner },
  });
}

async function listDisks(store: BlobStore): Promise<readonly DiskPlace[]> {
  const places = new Map<string, DiskPlace>();
  for await (const { name } of store.list(EVERY_DISK)) {
    const file = parseFileName(name);
    if (file) places.set(`${file.place.vmContextId}/${file.place.diskId}`, file.place);
  }
  return [...places.values()];
}
