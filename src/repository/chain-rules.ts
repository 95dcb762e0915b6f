// The rules of chains as pure functions over sidecars. No I/O, no clock: what is given in decides.

import { ChainkeepError } from '../plumbing/errors.ts';
import { DAY_MS } from './lock-rules.ts';
import type { BackupType, Sidecar } from './sidecar-fields.ts';

export interface Chain {
  readonly full: Sidecar;
  /** Every backup that descends from the full, the full first, oldest first. */
  readonly backups: readonly Sidecar[];
}

/** Sorted by id, and so by time. */
export function byAge(sidecars: Iterable<Sidecar>): Sidecar[] {
  return [...sidecars].sort((a, b) => (a.backup_id < b.backup_id ? -1 : 1));
}

/** The chains of one disk, newest first; backups whose way to a full is broken are in none (see `ancestors`). */
export function buildChains(sidecars: readonly Sidecar[]): Chain[] {
  const known = indexById(sidecars);
  const chains = new Map<string, Sidecar[]>();
  for (const sidecar of byAge(sidecars)) {
    const root = tryAncestors(sidecar, known)?.at(-1);
    if (!root) continue;
    const members = chains.get(root.backup_id);
    if (members) members.push(sidecar);
    else chains.set(root.backup_id, [sidecar]);
  }
  const found = [...chains].flatMap(([id, backups]) => {
    const full = known.get(id);
    return full ? [{ full, backups }] : [];
  });
  return found.sort((a, b) => (a.full.backup_id < b.full.backup_id ? 1 : -1));
}

/** The backup and everything it needs, newest first, the full last. Throws CHAIN_CORRUPT or PARENT_NOT_FOUND. */
export function ancestors(backup: Sidecar, sidecars: readonly Sidecar[]): Sidecar[] {
  return walk(backup, indexById(sidecars));
}

/** Everything that cannot be restored without `backupId`, oldest first; not the backup itself. */
export function dependents(backupId: string, sidecars: readonly Sidecar[]): Sidecar[] {
  const known = indexById(sidecars);
  return byAge(sidecars.filter((sidecar) => sidecar.backup_id !== backupId && needs(sidecar, backupId, known)));
}

/**
 * Why backups do not reach their full: a parent is gone, or does not fit, or the parents form a loop. What stands on such a backup has its fault
 * too. Each link is looked at once, however long the chains are.
 */
export function chainFaults(sidecars: readonly Sidecar[]): Map<string, ChainkeepError> {
  const known = indexById(sidecars);
  const sound = new Set<string>();
  const faults = new Map<string, ChainkeepError>();
  for (const sidecar of sidecars) {
    const path: string[] = [];
    const onPath = new Set<string>();
    let fault: ChainkeepError | undefined;
    for (let at: Sidecar | undefined = sidecar; at && !fault && !sound.has(at.backup_id); ) {
      fault = faults.get(at.backup_id) ?? (onPath.has(at.backup_id) ? loop(at) : undefined);
      path.push(at.backup_id);
      onPath.add(at.backup_id);
      const next: Sidecar | ChainkeepError | undefined = fault ?? parentOf(at, known);
      if (next instanceof ChainkeepError) fault = next;
      else at = next;
    }
    for (const id of path) fault ? faults.set(id, fault) : sound.add(id);
  }
  return faults;
}

export interface ChainValidity {
  /** Oldest first. */
  readonly backups: readonly Sidecar[];
  /** In no order; empty for a chain that is as it should be. */
  readonly faults: readonly { readonly backupId: string; readonly error: ChainkeepError }[];
}

/**
 * Is this chain one: a full first and no other, every parent there and of the content it had, no loop, all of one disk?
 * `damaged`: as a disk folder knows it. Throws BACKUP_NOT_FOUND for a chain of which nothing is there.
 */
export function validateChain(
  chainId: string,
  sidecars: readonly Sidecar[],
  damaged: ReadonlyMap<string, ChainkeepError> = new Map(),
): ChainValidity {
  const backups = byAge(sidecars.filter((sidecar) => sidecar.chain_id === chainId));
  if (backups.length === 0) {
    throw new ChainkeepError('BACKUP_NOT_FOUND', `no backup of chain ${chainId} is there`, { context: { chain_id: chainId } });
  }
  const broken = chainFaults(sidecars);
  const faults = backups.flatMap(({ backup_id: backupId }) => {
    const errors = [broken.get(backupId), damaged.get(backupId)].filter((error) => error !== undefined);
    return errors.map((error) => ({ backupId, error }));
  });
  const wrongRoot = backups.find((sidecar, index) => (sidecar.backup_type === 'full') !== (index === 0));
  if (wrongRoot) {
    const message = `chain ${chainId} does not begin with its one full backup: ${wrongRoot.backup_id} is ${wrongRoot.backup_type}`;
    const error = new ChainkeepError('CHAIN_CORRUPT', message, { context: { chain_id: chainId, backup_id: wrongRoot.backup_id } });
    faults.push({ backupId: wrongRoot.backup_id, error });
  }
  return { backups, faults };
}

export type ParentChoice =
  | { readonly type: 'full'; readonly reason: string }
  | { readonly type: 'incremental' | 'differential'; readonly parent: Sidecar; readonly reason: string };

export interface ParentRequest {
  readonly type: 'auto' | BackupType;
  /** Exact size of the disk now. */
  readonly totalBytes: number;
  /** The cluster size asked for, if any: a chain keeps its own. */
  readonly clusterSize?: number;
  /** Backups known to be damaged: unreadable sidecars, missing files, failed verifications. */
  readonly damaged?: ReadonlySet<string>;
  /** In an immutable repository: when `auto` starts another chain. Else a chain never ends, and its locks with it. */
  readonly renew?: { readonly afterDays: number; readonly afterBackups: number; readonly now: number };
}

/**
 * What the next backup of a disk is, and on what it stands: incremental on the newest completed backup of the current chain,
 * differential on its full. A disk that shrank starts a new chain whatever was asked for.
 */
export function chooseParent(request: ParentRequest, sidecars: readonly Sidecar[]): ParentChoice {
  if (request.type === 'full') return { type: 'full', reason: 'a full backup was asked for' };
  const chain = buildChains(sidecars)[0];
  if (!chain) {
    if (request.type === 'auto') return { type: 'full', reason: 'there is no completed backup of this disk to build on' };
    throw new ChainkeepError('PARENT_REQUIRED', `a backup of type ${request.type} needs a completed full backup, and this disk has none`, {
      advice: 'take a full backup first, or use --type auto',
    });
  }
  const damage = findDamage(chain, sidecars, request.damaged ?? new Set());
  if (damage) {
    if (request.type === 'auto') return { type: 'full', reason: `the chain is damaged (${damage}): a new chain starts` };
    throw new ChainkeepError('CHAIN_CORRUPT', `the chain of this disk is damaged: ${damage}`, {
      advice: 'verify it and bring back what is missing from a copy, or start a new chain with --type full',
      context: { chain_id: chain.full.backup_id },
    });
  }
  const aged = request.type === 'auto' && request.renew ? reasonToRenew(chain, request.renew) : undefined;
  if (aged !== undefined) return { type: 'full', reason: aged };
  const latest = chain.backups.at(-1) ?? chain.full;
  const parent = request.type === 'differential' ? chain.full : latest;
  if (request.totalBytes < latest.total_bytes || request.totalBytes < parent.total_bytes) {
    return { type: 'full', reason: `the disk shrank from ${latest.total_bytes} to ${request.totalBytes} bytes: a new chain starts` };
  }
  if (request.clusterSize !== undefined && request.clusterSize !== parent.qcow2.cluster_size) {
    if (request.type === 'auto')
      return { type: 'full', reason: `the chain has clusters of ${parent.qcow2.cluster_size} bytes: a new chain starts` };
    throw new ChainkeepError(
      'CONFIG_INVALID',
      `the chain has clusters of ${parent.qcow2.cluster_size} bytes, ${request.clusterSize} were asked for`,
      {
        advice: 'leave --cluster-size away, or start a new chain with --type full',
      },
    );
  }
  const type = request.type === 'differential' ? 'differential' : 'incremental';
  return { type, parent, reason: `the newest completed backup of the chain is ${latest.backup_id}` };
}

function reasonToRenew(
  { full, backups }: Chain,
  { afterDays, afterBackups, now }: NonNullable<ParentRequest['renew']>,
): string | undefined {
  const after = 'in an immutable repository another chain starts after';
  if (backups.length >= afterBackups) return `the chain has ${backups.length} backups, and ${after} ${afterBackups}`;
  const days = (now - Date.parse(full.completed_at)) / DAY_MS;
  return days >= afterDays ? `the chain is ${Math.floor(days)} days old, and ${after} ${afterDays}` : undefined;
}

/** Throws CHAIN_CORRUPT when a backup does not fit on its parent: another disk, another cluster size, another content, a larger disk. */
export function checkLink(child: Sidecar, parent: Sidecar): void {
  const misfit = findMisfit(child, parent);
  if (misfit) throw misfit;
}

function findMisfit(child: Sidecar, parent: Sidecar): ChainkeepError | undefined {
  const faults = [
    [child.vm_context_id !== parent.vm_context_id || child.disk_id !== parent.disk_id, 'is of another disk'],
    [child.chain_id !== parent.chain_id, `belongs to chain ${parent.chain_id}`],
    [child.qcow2.cluster_size !== parent.qcow2.cluster_size, `has clusters of ${parent.qcow2.cluster_size} bytes`],
    [child.parent_content_root !== parent.content_root, 'has another content than the one this backup was made on'],
    [child.total_bytes < parent.total_bytes, 'is of a larger disk'],
    [child.backup_type === 'differential' && parent.backup_type !== 'full', 'is no full backup, which a differential needs'],
  ] as const;
  const fault = faults.find(([broken]) => broken);
  if (!fault) return undefined;
  return new ChainkeepError(
    'CHAIN_CORRUPT',
    `backup ${child.backup_id} does not fit on its parent ${parent.backup_id}, which ${fault[1]}`,
    {
      advice: 'verify the repository; start a new chain with --type full',
      context: { backup_id: child.backup_id, parent_backup_id: parent.backup_id },
    },
  );
}

/** Why this chain takes no child: one of its backups is damaged, or was cut off by one that is gone. */
function findDamage(chain: Chain, sidecars: readonly Sidecar[], damaged: ReadonlySet<string>): string | undefined {
  const members = new Set(chain.backups);
  const cutOff = sidecars.find((sidecar) => sidecar.chain_id === chain.full.chain_id && !members.has(sidecar));
  if (cutOff) return `backup ${cutOff.backup_id} does not reach its full any more`;
  // A sidecar nobody can read belongs to some chain of this disk; where it is younger than the full, it may be this one.
  const known = new Set(sidecars.map((sidecar) => sidecar.backup_id));
  const ids = new Set(chain.backups.map((sidecar) => sidecar.backup_id));
  const broken = [...damaged].find((id) => ids.has(id) || (!known.has(id) && id > chain.full.backup_id));
  return broken === undefined ? undefined : `backup ${broken} is damaged`;
}

function indexById(sidecars: readonly Sidecar[]): Map<string, Sidecar> {
  return new Map(sidecars.map((sidecar) => [sidecar.backup_id, sidecar]));
}

function walk(backup: Sidecar, known: ReadonlyMap<string, Sidecar>): Sidecar[] {
  const path = [backup];
  for (let at = backup; at.parent_backup_id !== null; ) {
    const parent = known.get(at.parent_backup_id);
    if (!parent) throw parentGone(at, at.parent_backup_id, backup);
    checkLink(at, parent);
    // Content roots are hashes over their parents' roots only by value, so a loop is conceivable in damaged sidecars.
    if (path.length > known.size) throw loop(backup);
    path.push(parent);
    at = parent;
  }
  return path;
}

/** Undefined for a full; the fault where the parent is gone or does not fit. */
function parentOf(sidecar: Sidecar, known: ReadonlyMap<string, Sidecar>): Sidecar | ChainkeepError | undefined {
  const { parent_backup_id: id } = sidecar;
  if (id === null) return undefined;
  const parent = known.get(id);
  return parent ? (findMisfit(sidecar, parent) ?? parent) : parentGone(sidecar, id, sidecar);
}

function parentGone(child: Sidecar, parentId: string, backup: Sidecar): ChainkeepError {
  return new ChainkeepError('PARENT_NOT_FOUND', `backup ${child.backup_id} needs ${parentId}, which is not in the repository`, {
    advice: 'bring its files back from a copy; until then nothing that needs it can be restored',
    context: { backup_id: backup.backup_id, missing_backup_id: parentId },
  });
}

function loop({ backup_id }: Sidecar): ChainkeepError {
  return new ChainkeepError('CHAIN_CORRUPT', `the parents of backup ${backup_id} form a loop`, { context: { backup_id } });
}

function tryAncestors(backup: Sidecar, known: ReadonlyMap<string, Sidecar>): Sidecar[] | undefined {
  try {
    return walk(backup, known);
  } catch (error) {
    if (error instanceof ChainkeepError) return undefined;
    throw error;
  }
}

function needs(backup: Sidecar, ancestorId: string, known: ReadonlyMap<string, Sidecar>): boolean {
  let at: Sidecar | undefined = backup;
  for (let steps = 0; at && steps <= known.size; steps++) {
    if (at.parent_backup_id === ancestorId) return true;
    at = at.parent_backup_id === null ? undefined : known.get(at.parent_backup_id);
  }
  return false;
}
