// Removes a backup that nothing needs and nothing protects. The other way round than the commit: the sidecar first, for without it there is no backup.

import { isoTime } from '../plumbing/clock.ts';
import { ChainkeepError, isChainkeepError } from '../plumbing/errors.ts';
import { dependents } from './chain-rules.ts';
import { type DiskFolder, readDiskFolder, readSidecar } from './disk-folder.ts';
import type { Guard } from './guard.ts';
import { type DiskPlace, diskFolder, imageFile, parseFileName, parseProtectionName, sidecarFile } from './layout.ts';
import { isActive, readProtections } from './protection.ts';
import { type KnownProtection, refuseProtected } from './refuse-protected.ts';
import type { RepositoryContext } from './repository-context.ts';
import type { Sidecar } from './sidecar-fields.ts';

export interface DeletePlan {
  readonly place: DiskPlace;
  readonly backupId: string;
  /** In the order they are removed: sidecar, digests, image, then what had protected it. */
  readonly files: readonly string[];
  readonly freedBytes: number;
  /** What the catalog knew; it is looked at again right before the first file goes. */
  readonly known?: KnownProtection;
}

/** Throws BACKUP_NOT_FOUND, IMMUTABLE_RETENTION_ACTIVE, HOLD_ACTIVE or CLOCK_JUMPED, or BACKUP_HAS_DEPENDENTS naming who needs it. */
export async function planDelete(
  context: RepositoryContext,
  place: DiskPlace,
  backupId: string,
  protection?: KnownProtection,
): Promise<DeletePlan> {
  const folder = await readDiskFolder(context.store, context.blake3, place);
  const known = folder.sidecars.some((sidecar) => sidecar.backup_id === backupId) || folder.damaged.has(backupId);
  if (!known) {
    await refuseProtected(context, place, backupId, undefined, protection);
    throw new ChainkeepError('BACKUP_NOT_FOUND', `backup ${backupId} is not in ${context.store.place}`, {
      advice: 'list the backups that are there with: chainkeep list',
      context: { backup_id: backupId },
    });
  }
  await refuseProtected(context, place, backupId, sidecarOf(folder, backupId) ?? 'damaged', protection);
  refuseDependents(folder, backupId);
  refuseHidden(folder, backupId);
  const files = await listFiles(context, place, backupId);
  return {
    place,
    backupId,
    files: files.map(({ name }) => name),
    freedBytes: files.reduce((sum, { size }) => sum + size, 0),
    ...(protection && { known: protection }),
  };
}

function sidecarOf(folder: DiskFolder, backupId: string): Sidecar | undefined {
  return folder.sidecars.find((sidecar) => sidecar.backup_id === backupId);
}

/** Between the plan and this moment somebody may have locked or held it: all is asked again under the lease. */
export async function runDelete(context: RepositoryContext, plan: DeletePlan, guard: Guard): Promise<void> {
  const { place, backupId, files, known } = plan;
  await refuseProtected(context, place, backupId, await readOwnSidecar(context, place, backupId), known);
  await refuseLockedByStore(context, backupId, files);
  await guard.assertHeld();
  await context.assertOwned();
  for (const name of files) {
    await context.store.release(name);
    await context.store.delete(name);
  }
}

async function readOwnSidecar(
  { store, blake3 }: RepositoryContext,
  place: DiskPlace,
  backupId: string,
): Promise<Sidecar | 'damaged' | undefined> {
  try {
    return await readSidecar(store, blake3, place, backupId);
  } catch (error) {
    if (isChainkeepError(error, 'BACKUP_NOT_FOUND')) return undefined;
    if (isChainkeepError(error, 'SIDECAR_INVALID')) return 'damaged';
    throw error;
  }
}

/** A store with dates of its own has the last word, and it must be heard before the sidecar is gone and the image cannot follow. */
async function refuseLockedByStore({ store }: RepositoryContext, backupId: string, files: readonly string[]): Promise<void> {
  const { retention, retentionMark } = store.capabilities;
  if (retention === 'none' || retentionMark !== undefined) return;
  const now = await store.now();
  for (const name of files) {
    const found = await store.protectionOf(name).catch((error: unknown) => {
      if (isChainkeepError(error, 'BLOB_NOT_FOUND')) return undefined;
      throw error;
    });
    const context = { backup_id: backupId, name };
    if (found?.hold) {
      const advice = 'lift the hold in the store, if it was not set by chainkeep';
      throw new ChainkeepError('HOLD_ACTIVE', `the store holds ${name}`, { advice, context });
    }
    if (found?.until === undefined || (now !== undefined && found.until <= now)) continue;
    const until = isoTime(found.until);
    throw new ChainkeepError('IMMUTABLE_RETENTION_ACTIVE', `the store locks ${name} until ${until}`, {
      advice: 'it cannot be deleted before that date, by nobody and with no option',
      context: { ...context, retention_expires_at: until },
    });
  }
}

/** What is known of a backup whose files lie there without a sidecar. */
export type Fate = 'dead' | 'unknown' | 'completed';

// Without any knowledge files are rubbish only when they are old: their run may be starting on another machine at this moment.
const RUBBISH_AGE = 24 * 3600 * 1000;

/**
 * Removes what a run that died before its commit has left on this disk. Only its one writer, who holds the lease, may call it.
 * `fate`: what the catalog knows; files of a backup that it calls completed are evidence of a lost sidecar and stay.
 */
export async function removeRubbish(
  context: RepositoryContext,
  place: DiskPlace,
  guard: Guard,
  fate: (backupId: string) => Promise<Fate>,
): Promise<readonly string[]> {
  const folder = await readDiskFolder(context.store, context.blake3, place);
  await guard.assertHeld();
  await context.assertOwned();
  const swept = await context.store.sweep(diskFolder(place), () => true);
  const removed = swept.map(({ name }) => name);
  const { active, over } = await readOrphanedProtection(context, folder);
  for (const { name, modifiedAt } of folder.rubbish) {
    const backupId = parseFileName(name)?.backupId ?? '';
    // Locked or held, and without its sidecar: somebody took that away, and what is left is evidence.
    if (active.has(backupId)) continue;
    const known = await fate(backupId);
    const old = context.clock.now() - modifiedAt > RUBBISH_AGE;
    if (known === 'completed' || (known === 'unknown' && !old)) continue;
    if (await removeUnlocked(context, name)) removed.push(name);
  }
  for (const [backupId, names] of over) {
    if ((await fate(backupId)) !== 'dead') continue;
    for (const name of names) if (await removeUnlocked(context, name)) removed.push(name);
  }
  return removed;
}

/** Locked rubbish (a bucket may lock whatever is written to it) costs room until its date, and is no fault: the next run asks again. */
async function removeUnlocked({ store, logger }: RepositoryContext, name: string): Promise<boolean> {
  try {
    await store.release(name);
    await store.delete(name);
    return true;
  } catch (error) {
    if (!isChainkeepError(error, 'IMMUTABLE_RETENTION_ACTIVE') && !isChainkeepError(error, 'HOLD_ACTIVE')) throw error;
    logger.log('debug', `a left-over file stays as long as the store locks it: ${name}`, { ...error.context });
    return false;
  }
}

interface OrphanedProtection {
  readonly active: ReadonlySet<string>;
  /** Backup id → the names of its files: dates that are over, holds that are lifted. */
  readonly over: ReadonlyMap<string, readonly string[]>;
}

/** What protects backups that have no sidecar (any more). */
async function readOrphanedProtection(context: RepositoryContext, folder: DiskFolder): Promise<OrphanedProtection> {
  const there = new Set([...folder.sidecars.map((sidecar) => sidecar.backup_id), ...folder.damaged.keys()]);
  const files = folder.protectionFiles.filter(({ name }) => !there.has(parseProtectionName(name)?.backupId ?? ''));
  const active = new Set<string>();
  const over = new Map<string, readonly string[]>();
  for (const [backupId, { lockedUntil, holds, damage }] of await readProtections(context.store, context.blake3, files)) {
    const { expireAt } = lockedUntil === null ? { expireAt: 0 } : await context.time();
    const isLocked = lockedUntil !== null && (expireAt === undefined || Date.parse(lockedUntil) > expireAt);
    if (isLocked || damage.length > 0 || holds.some(isActive)) active.add(backupId);
    else
      over.set(
        backupId,
        files.map(({ name }) => name).filter((name) => parseProtectionName(name)?.backupId === backupId),
      );
  }
  return { active, over };
}

function refuseDependents(folder: DiskFolder, backupId: string): void {
  const needed = dependents(backupId, folder.sidecars);
  if (needed.length === 0) return;
  throw new ChainkeepError(
    'BACKUP_HAS_DEPENDENTS',
    `backup ${backupId} is needed by ${needed.length} other backup${needed.length > 1 ? 's' : ''}`,
    {
      advice: 'delete the newest backups first; thinning out a chain is the work of chainkeep prune, which is not built yet',
      context: { backup_id: backupId, dependents: needed.map((sidecar) => sidecar.backup_id) },
    },
  );
}

/** A sidecar nobody can read may be that of a child; children are younger, for ids follow the time. */
function refuseHidden(folder: DiskFolder, backupId: string): void {
  const readable = new Set(folder.sidecars.map((sidecar) => sidecar.backup_id));
  const hidden = [...folder.damaged.keys()].find((id) => id > backupId && !readable.has(id));
  if (hidden === undefined) return;
  throw new ChainkeepError('CHAIN_CORRUPT', `backup ${hidden} of the same disk is damaged, and may need ${backupId}`, {
    advice: 'bring its sidecar back from a copy, or delete the damaged one first',
    context: { backup_id: backupId, damaged_backup_id: hidden },
  });
}

async function listFiles(context: RepositoryContext, place: DiskPlace, backupId: string): Promise<{ name: string; size: number }[]> {
  const folder = diskFolder(place);
  const digests: { name: string; size: number }[] = [];
  const found = new Map<string, number>();
  const protecting: { name: string; size: number }[] = [];
  for await (const { name, size } of context.store.list(folder + backupId)) {
    if (parseProtectionName(name)?.backupId === backupId) protecting.push({ name, size });
    const file = parseFileName(name);
    if (file?.backupId !== backupId) continue;
    found.set(name, size);
    if (file.kind === 'digests') digests.push({ name, size });
  }
  const one = (name: string): { name: string; size: number }[] => (found.has(name) ? [{ name, size: found.get(name) ?? 0 }] : []);
  return [...one(folder + sidecarFile(backupId)), ...digests, ...one(folder + imageFile(backupId)), ...protecting];
}
