// The part of a repository that is about locks and holds: what protects its backups, what should, and the settings that say so.
// It must not know a catalog: what time it is, and what was known before, come in.

import type { Clock } from '../plumbing/clock.ts';
import type { BlobInfo, BlobStore } from '../store/blob-store.ts';
import type { Guard } from './guard.ts';
import { addHold, type HoldRequest, liftHold } from './hold-backup.ts';
import { type Immutability, isSameImmutability } from './immutability.ts';
import { type DiskPlace, diskFolder, EVERY_DISK, parseCompactTime, parseProtectionName } from './layout.ts';
import type { LockTime } from './lock-rules.ts';
import { type LookOptions, lookAtProtection, type ProtectionPlan } from './look-at-protection.ts';
import { writeMarker } from './marker.ts';
import { type Hold, type Protection, readProtections } from './protection.ts';
import type { RepositoryContext } from './repository-context.ts';
import { type ProtectionOutcome, runProtection } from './run-protection.ts';

export interface RepositoryLocks {
  /** The settings that count: of catalog and marker the stronger ones. */
  readonly settings: Immutability | undefined;
  /** What locks are judged by at this moment. */
  time(): Promise<LockTime>;
  /** What protects the backups of a disk, as their files say. `listed`: everything in its folder, where it was listed a moment ago. */
  read(place: DiskPlace, listed?: readonly BlobInfo[]): Promise<ReadonlyMap<string, Protection>>;
  /** What has to be done so that the backups of a disk are protected as they should be. */
  look(place: DiskPlace, options?: LookOptions): Promise<ProtectionPlan>;
  run(plan: ProtectionPlan, guard: Guard): Promise<ProtectionOutcome>;
  addHold(place: DiskPlace, backupId: string, request: HoldRequest, guard: Guard): Promise<Hold>;
  liftHold(place: DiskPlace, backupId: string, lift: { readonly holdId: string; readonly by: string }, guard: Guard): Promise<Hold>;
  /** What the marker asks for from now on, also less: the caller knows that nothing is locked any more. Answers whether it had to be changed. */
  replaceSettings(settings: Immutability | undefined): Promise<boolean>;
}

export function openLocks(context: RepositoryContext): RepositoryLocks {
  return {
    settings: context.immutability,
    time: () => context.time(),
    read: (place, listed) => readDisk(context, place, listed),
    look: (place, options) => lookAtProtection(context, place, options),
    run: (plan, guard) => runProtection(context, plan, guard),
    addHold: (place, backupId, request, guard) => addHold(context, place, backupId, request, guard),
    liftHold: (place, backupId, lift, guard) => liftHold(context, place, backupId, lift, guard),
    replaceSettings: (settings) => replaceSettings(context, settings),
  };
}

/** The clock of this machine and that of the store, each as it is: nothing says which one is right. */
export async function timeOfClocks(clock: Clock, store: BlobStore): Promise<LockTime> {
  const here = clock.now();
  const there = await store.now();
  return { now: Math.max(here, there ?? here), expireAt: Math.min(here, there ?? here) };
}

async function replaceSettings({ store, blake3, assertOwned }: RepositoryContext, settings: Immutability | undefined): Promise<boolean> {
  const marker = await assertOwned();
  if (isSameImmutability(settings, marker.immutability ?? undefined)) return false;
  await writeMarker(store, blake3, { ...marker, immutability: settings ?? null }, { replace: true });
  return true;
}

/** The latest date of all locks in a store; undefined without one. Reads names alone. */
export async function latestLock(store: BlobStore): Promise<number | undefined> {
  let latest: number | undefined;
  for await (const { name } of store.list(EVERY_DISK)) {
    const file = parseProtectionName(name);
    const date = file?.kind === 'lock' ? parseCompactTime(file.rest) : undefined;
    if (date !== undefined) latest = Math.max(latest ?? 0, date);
  }
  return latest;
}

async function readDisk(
  { store, blake3 }: RepositoryContext,
  place: DiskPlace,
  listed: readonly BlobInfo[] | undefined,
): Promise<ReadonlyMap<string, Protection>> {
  if (listed) return readProtections(store, blake3, listed);
  const found: BlobInfo[] = [];
  for await (const info of store.list(diskFolder(place))) found.push(info);
  return readProtections(store, blake3, found);
}
