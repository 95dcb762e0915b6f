// Verifies all backups of one disk: each by itself, then how they fit together. Damage is named with every restore point it hits.

import { DIGEST_BYTES, hex } from '../plumbing/blake3.ts';
import { ChainkeepError, throwIfCancelled } from '../plumbing/errors.ts';
import { RANGE_CLUSTERS } from '../transfer/expected-view.ts';
import { ancestors, chainFaults, dependents } from './chain-rules.ts';
import { ChainView, leavesOf } from './chain-view.ts';
import { countRanges, RECORD, RECORD_BYTES, rangeHash } from './digests-format.ts';
import type { DigestsReader } from './digests-reader.ts';
import { type DiskFolder, readDiskFolder, readListedFolder } from './disk-folder.ts';
import type { DiskPlace } from './layout.ts';
import { openBackupDigests } from './open-backup.ts';
import type { RepositoryContext } from './repository-context.ts';
import type { Sidecar } from './sidecar-fields.ts';
import { damageOf, type FoundDamage, type VerifyRun, verifyImage } from './verify-image.ts';

export interface NamedDamage extends FoundDamage {
  readonly backupId: string;
  /** Every restore point that is hit, the backup itself included where it is. */
  readonly affects: readonly string[];
}

export interface VerifiedBackup {
  readonly backupId: string;
  readonly damage: readonly NamedDamage[];
  /** As its sidecar says; null where that cannot be read. */
  readonly contentRoot: string | null;
  readonly clusters: number;
  readonly bytes: number;
}

/** Verifies the backups of `only` (all of the disk without it), with everything they stand on, oldest first. */
export async function* verifyDisk(
  context: RepositoryContext,
  place: DiskPlace,
  run: VerifyRun,
  only?: readonly string[],
): AsyncGenerator<VerifiedBackup> {
  const { store, blake3 } = context;
  const folder = run.listed ? await readListedFolder(store, blake3, place, run.listed) : await readDiskFolder(store, blake3, place);
  const wanted = only && withAncestors(only, folder);
  for (const [backupId, error] of folder.damaged) {
    if (wanted && !wanted.has(backupId)) continue;
    if (folder.sidecars.some((sidecar) => sidecar.backup_id === backupId)) continue;
    yield nameDamage(folder, backupId, [damageOf(error)]);
  }
  const read = run.whileReading ?? ((_id, work) => work());
  const faults = run.quick && store.capabilities.costlyReads ? chainFaults(folder.sidecars) : undefined;
  for (const sidecar of folder.sidecars) {
    throwIfCancelled(run.signal);
    if (wanted && !wanted.has(sidecar.backup_id)) continue;
    if (faults) yield lookedAt(folder, sidecar, faults);
    else yield await read(sidecar.backup_id, () => verifyBackup(context, folder, sidecar, run));
  }
}

/** What listing and sidecars say, where every further read is a request: files that are missing or cut, and links that do not fit. */
function lookedAt(folder: DiskFolder, { backup_id: id }: Sidecar, faults: ReadonlyMap<string, ChainkeepError>): VerifiedBackup {
  const found = [folder.damaged.get(id), faults.get(id)].filter((error) => error !== undefined);
  return nameDamage(folder, id, found.map(damageOf));
}

/** A restore point is only as good as everything under it. */
function withAncestors(only: readonly string[], folder: DiskFolder): ReadonlySet<string> {
  const wanted = new Set(only);
  const byId = new Map(folder.sidecars.map((sidecar) => [sidecar.backup_id, sidecar]));
  for (const id of wanted) {
    const parent = byId.get(id)?.parent_backup_id;
    if (parent) wanted.add(parent);
  }
  return wanted;
}

async function verifyBackup(context: RepositoryContext, folder: DiskFolder, sidecar: Sidecar, run: VerifyRun): Promise<VerifiedBackup> {
  let digests: DigestsReader;
  try {
    digests = await openBackupDigests(context, sidecar);
  } catch (error) {
    return nameDamage(folder, sidecar.backup_id, [damageOf(error)]);
  }
  try {
    const image = await verifyImage(context, sidecar, digests, run);
    const links = await checkLinks(context, folder, sidecar, digests);
    const precise: NamedDamage[] = [];
    // Damaged digests are met twice: while clusters are checked, and while the chain is.
    const more = links.filter((link) => !image.damage.some((damage) => damage.message === link.message));
    for (const damage of [...image.damage, ...more]) {
      precise.push({ ...damage, backupId: sidecar.backup_id, affects: await affected(context, folder, sidecar.backup_id, damage) });
    }
    return {
      backupId: sidecar.backup_id,
      damage: precise,
      contentRoot: sidecar.content_root,
      clusters: image.clusters,
      bytes: image.bytes,
    };
  } finally {
    await digests.close();
  }
}

/** Does the backup fit on its parents, and do the digests of the chain give the content root it claims? */
async function checkLinks(
  context: RepositoryContext,
  folder: DiskFolder,
  sidecar: Sidecar,
  digests: DigestsReader,
): Promise<FoundDamage[]> {
  const readers: DigestsReader[] = [];
  try {
    const [, ...older] = ancestors(sidecar, folder.sidecars);
    for (const parent of older) readers.push(await openBackupDigests(context, parent));
    await checkContentRoot(context, sidecar, digests, readers);
    return [];
  } catch (error) {
    return [damageOf(error)];
  } finally {
    await Promise.all(readers.map((reader) => reader.close()));
  }
}

async function checkContentRoot(
  context: RepositoryContext,
  sidecar: Sidecar,
  digests: DigestsReader,
  older: readonly DigestsReader[],
): Promise<void> {
  const ranges = await digests.ranges();
  const expected = Buffer.alloc(countRanges(sidecar.total_bytes, sidecar.qcow2.cluster_size) * DIGEST_BYTES);
  const parentRanges = await older[0]?.ranges();
  if (parentRanges) expected.set(parentRanges);
  const view = new ChainView([digests, ...older]);
  const leaves = Buffer.alloc(RANGE_CLUSTERS * DIGEST_BYTES);
  for await (const { range } of digests.everySection()) {
    expected.set(rangeHash(context.blake3, leavesOf(await view.range(range), leaves)), range * DIGEST_BYTES);
  }
  if (expected.equals(ranges)) return;
  throw new ChainkeepError('CHAIN_CORRUPT', `the digests of the chain of backup ${sidecar.backup_id} do not give its content root`, {
    advice: 'one of the backups it stands on was replaced by another; bring the chain back from a copy',
    context: { backup_id: sidecar.backup_id, content_root: sidecar.content_root, found: hex(context.blake3.hash(expected)) },
  });
}

function nameDamage(folder: DiskFolder, backupId: string, damage: readonly FoundDamage[]): VerifiedBackup {
  const affects = allHit(folder, backupId);
  const contentRoot = folder.sidecars.find((sidecar) => sidecar.backup_id === backupId)?.content_root ?? null;
  return { backupId, damage: damage.map((found) => ({ ...found, backupId, affects })), contentRoot, clusters: 0, bytes: 0 };
}

function allHit(folder: DiskFolder, backupId: string): string[] {
  return [backupId, ...dependents(backupId, folder.sidecars).map((sidecar) => sidecar.backup_id)];
}

/** Damage outside of the data hits everything that needs the backup; in the data only who still reads one of those clusters from it. */
async function affected(context: RepositoryContext, folder: DiskFolder, backupId: string, damage: FoundDamage): Promise<string[]> {
  const { guestOffset, length } = damage;
  if (guestOffset === null || length === null) return allHit(folder, backupId);
  const hit = [backupId];
  for (const dependent of dependents(backupId, folder.sidecars)) {
    if (await readsFrom(context, folder, dependent, backupId, { guestOffset, length })) hit.push(dependent.backup_id);
  }
  return hit;
}

interface GuestRange {
  readonly guestOffset: number;
  readonly length: number;
}

/** Is a cluster of the range still decided by `backupId` when `dependent` is read? */
async function readsFrom(
  context: RepositoryContext,
  folder: DiskFolder,
  dependent: Sidecar,
  backupId: string,
  range: GuestRange,
): Promise<boolean> {
  const clusterSize = dependent.qcow2.cluster_size;
  const first = Math.floor(range.guestOffset / clusterSize);
  const exposed = new Set(Array.from({ length: Math.ceil(range.length / clusterSize) }, (_, index) => first + index));
  for (const newer of pathTo(dependent, backupId, folder.sidecars)) {
    try {
      const digests = await openBackupDigests(context, newer);
      try {
        await hideDecided(digests, exposed);
      } finally {
        await digests.close();
      }
    } catch (error) {
      damageOf(error); // damage of its own, reported where it lies; without its record everything counts as hit
      return true;
    }
  }
  return exposed.size > 0;
}

function pathTo(dependent: Sidecar, backupId: string, sidecars: readonly Sidecar[]): Sidecar[] {
  const path: Sidecar[] = [];
  for (let at: Sidecar | undefined = dependent; at && at.backup_id !== backupId && path.length <= sidecars.length; ) {
    path.push(at);
    const parentId: string | null = at.parent_backup_id;
    at = sidecars.find((sidecar) => sidecar.backup_id === parentId);
  }
  return path;
}

/** Takes the clusters that a backup decides out of `exposed`. */
async function hideDecided(digests: DigestsReader, exposed: Set<number>): Promise<void> {
  for (const range of new Set([...exposed].map((cluster) => Math.floor(cluster / RANGE_CLUSTERS)))) {
    const section = await digests.section(range);
    if (!section) continue;
    for (let at = 0; at < section.records.length; at += RECORD_BYTES) {
      exposed.delete(range * RANGE_CLUSTERS + section.records.readUInt16BE(at + RECORD.CLUSTER));
    }
  }
}
