// Removes a backup that nothing needs. The other way round than the commit: the sidecar first, for without it there is no backup.

import { ChainkeepError } from '../plumbing/errors.ts';
import { dependents } from './chain-rules.ts';
import { type DiskFolder, readDiskFolder } from './disk-folder.ts';
import type { Guard } from './guard.ts';
import { type DiskPlace, diskFolder, imageFile, parseFileName, sidecarFile } from './layout.ts';
import type { RepositoryContext } from './repository-context.ts';

export interface DeletePlan {
  readonly place: DiskPlace;
  readonly backupId: string;
  /** In the order they are removed: sidecar, digests, image. */
  readonly files: readonly string[];
  readonly freedBytes: number;
}

/** Throws BACKUP_NOT_FOUND, or BACKUP_HAS_DEPENDENTS naming who needs it. */
export async function planDelete(context: RepositoryContext, place: DiskPlace, backupId: string): Promise<DeletePlan> {
  const folder = await readDiskFolder(context.store, context.blake3, place);
  const known = folder.sidecars.some((sidecar) => sidecar.backup_id === backupId) || folder.damaged.has(backupId);
  if (!known) {
    throw new ChainkeepError('BACKUP_NOT_FOUND', `backup ${backupId} is not in ${context.store.place}`, {
      advice: 'list the backups that are there with: chainkeep list',
      context: { backup_id: backupId },
    });
  }
  refuseDependents(folder, backupId);
  refuseHidden(folder, backupId);
  const files = await listFiles(context, place, backupId);
  return { place, backupId, files: files.map(({ name }) => name), freedBytes: files.reduce((sum, { size }) => sum + size, 0) };
}

export async function runDelete(context: RepositoryContext, plan: DeletePlan, guard: Guard): Promise<void> {
  await guard.assertHeld();
  await context.assertOwned();
  for (const name of plan.files) await context.store.delete(name);
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
  for (const { name, modifiedAt } of folder.rubbish) {
    const known = await fate(parseFileName(name)?.backupId ?? '');
    const old = context.clock.now() - modifiedAt > RUBBISH_AGE;
    if (known === 'completed' || (known === 'unknown' && !old)) continue;
    await context.store.delete(name);
    removed.push(name);
  }
  return removed;
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
  for await (const { name, size } of context.store.list(folder + backupId)) {
    const file = parseFileName(name);
    if (file?.backupId !== backupId) continue;
    found.set(name, size);
    if (file.kind === 'digests') digests.push({ name, size });
  }
  const one = (name: string): { name: string; size: number }[] => (found.has(name) ? [{ name, size: found.get(name) ?? 0 }] : []);
  return [...one(folder + sidecarFile(backupId)), ...digests, ...one(folder + imageFile(backupId))];
}
