// Judges an attack: is it found, are the right restore points named, and does no restore end well with other content?

import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ChainkeepError, isChainkeepError } from '../../src/plumbing/errors.ts';
import type { Repository } from '../../src/repository/repository.ts';
import type { VerifyRun } from '../../src/repository/verify-image.ts';
import { PLACE, restoredBytes } from '../../test/repository/scratch-repository.ts';
import { type Attack, backupOf } from './attacks.ts';
import type { TwoChains } from './two-chains.ts';

interface Found {
  readonly backupId: string;
  readonly affects: readonly string[];
  readonly message: string;
}

/** What lies in the repository is as it was before afterwards. `thorough`: read everything and restore everything. */
export async function judgeAttack(chains: TwoChains, { changes }: Attack, thorough: boolean): Promise<string[]> {
  const put = (path: string, bytes: Buffer | null): void => {
    if (bytes === null) rmSync(join(chains.root, path));
    else writeFileSync(join(chains.root, path), bytes);
  };
  for (const [path, bytes] of changes) put(path, bytes);
  try {
    const marker = [...changes.keys()].some((path) => backupOf(path) === undefined);
    let repository: Repository;
    try {
      repository = await chains.open();
    } catch (error) {
      if (marker && (isChainkeepError(error, 'REPOSITORY_INVALID') || isChainkeepError(error, 'REPOSITORY_OFFLINE'))) return [];
      throw error;
    }
    if (marker) return ['the repository opens with a damaged marker'];
    return thorough ? await judgeWhole(chains, repository, changes) : await judgeQuick(chains, repository, ownersOf(changes));
  } catch (error) {
    return [error instanceof Error ? (error.stack ?? error.message) : String(error)];
  } finally {
    for (const path of changes.keys()) put(path, chains.files.get(path) ?? null);
  }
}

function ownersOf(changes: Attack['changes']): string[] {
  return [...new Set([...changes.keys()].flatMap((path) => backupOf(path) ?? []))];
}

async function verify(chains: TwoChains, repository: Repository, run: VerifyRun, only?: readonly string[]): Promise<Found[]> {
  const found: Found[] = [];
  const seen = new Set<string>();
  for await (const verified of repository.verifyDisk(PLACE, run, only)) {
    seen.add(verified.backupId);
    found.push(...verified.damage);
  }
  // As the verify job does it: what is gone without a trace is known by the catalog.
  const expected = only ?? chains.sidecars.map(({ backup_id: id }) => id);
  for (const id of expected) if (!seen.has(id)) found.push({ backupId: id, affects: [id], message: 'it is not in the repository' });
  return found;
}

/** One bit of one backup: named as its own, without reading data or else with; that look sees little of a file at a time. */
async function judgeQuick(chains: TwoChains, repository: Repository, owners: readonly string[]): Promise<string[]> {
  const quick = await verify(chains, repository, { quick: true }, owners);
  return checkNames(
    chains,
    owners,
    quick.length > 0 ? quick : await verify(chains, repository, { quick: false, windowClusters: 3 }, owners),
  );
}

function checkNames({ sidecars }: TwoChains, owners: readonly string[], found: readonly Found[]): string[] {
  if (found.length === 0) return ['it is not found'];
  const standing = new Set(owners);
  // Sidecars are oldest first.
  for (const { backup_id: id, parent_backup_id: parent } of sidecars) if (parent !== null && standing.has(parent)) standing.add(id);
  const faults: string[] = [];
  if (!found.some(({ backupId }) => standing.has(backupId))) faults.push(`none of ${owners.join(', ')} is named: ${JSON.stringify(found)}`);
  for (const { backupId, affects } of found) {
    const innocent = [backupId, ...affects].find((id) => !standing.has(id));
    if (innocent !== undefined) faults.push(`${innocent} is named, which does not stand on what was damaged`);
  }
  return faults;
}

/**
 * All three files of an earlier life are a good backup by themselves: who stands on it is refused and named, it restores to what it was then.
 * No repository can know better (docs/decisions/0002-digests-and-merge.md).
 */
function isWholeEarlierLife({ older, olderDisks }: TwoChains, changes: Attack['changes'], id: string, restored: Buffer): boolean {
  const own = [...older].filter(([path]) => path.includes(id));
  return own.every(([path, bytes]) => changes.get(path)?.equals(bytes)) && restored.equals(olderDisks.get(id) ?? Buffer.alloc(0));
}

async function judgeWhole(chains: TwoChains, repository: Repository, changes: Attack['changes']): Promise<string[]> {
  const owners = ownersOf(changes);
  const found = await verify(chains, repository, { quick: false });
  const faults = checkNames(chains, owners, found);
  const affected = new Set(found.flatMap(({ affects }) => affects));
  const target = `${chains.root}.restored`;
  for (const [id, disk] of chains.disks) {
    const restored = await restoredBytes(repository, id, target).catch((error: unknown) => error);
    if (Buffer.isBuffer(restored)) {
      if (!restored.equals(disk) && !isWholeEarlierLife(chains, changes, id, restored)) faults.push(`${id} restores to something else`);
    } else if (!(restored instanceof ChainkeepError) || restored.code === 'INTERNAL') {
      faults.push(restored instanceof Error ? (restored.stack ?? restored.message) : String(restored));
    } else if (!affected.has(id)) faults.push(`${id} cannot be restored and is not named: ${restored.message}`);
    if (existsSync(target)) faults.push(`the restore of ${id} left a file`);
    rmSync(target, { force: true });
  }
  return faults;
}

/** Nothing was damaged: no alarm. */
export async function judgeClean(chains: TwoChains): Promise<string[]> {
  const repository = await chains.open();
  return (await verify(chains, repository, { quick: false })).map(({ backupId, message }) => `a false alarm: ${backupId}: ${message}`);
}
