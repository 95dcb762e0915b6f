// Chains in the catalog and in a repository: begun, grown, completed, looked at, and taken from, always by the one writer of a disk.
// It must not hold a rule of its own: the rules of chains are pure functions in repository/chain-rules.ts.

import { type ChainFilter, type ChainListing, listChains } from '../catalog/backup-chains.ts';
import {
  type BackupJob,
  findBackupJob,
  findBackupJobs,
  insertBackupJob,
  type NewBackupJob,
  selectBackupJobs,
} from '../catalog/backup-jobs.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { type CompletedBackup, completeBackup } from '../catalog/complete-backup.ts';
import { listHolds } from '../catalog/holds.ts';
import type { Owner } from '../catalog/owner-fields.ts';
import { ChainkeepError, isChainkeepError } from '../plumbing/errors.ts';
import type { Logger } from '../plumbing/logger.ts';
import { type ChainValidity, validateChain } from '../repository/chain-rules.ts';
import type { DeletePlan } from '../repository/delete-backup.ts';
import type { Guard } from '../repository/guard.ts';
import type { DiskPlace } from '../repository/layout.ts';
import type { KnownProtection } from '../repository/refuse-protected.ts';
import type { Repository } from '../repository/repository.ts';
import { withLease } from './lease.ts';
import { waitForReaders } from './reading.ts';

/** Who writes, for the lease, and where the lease tells what happens to it. */
export interface ChainWriter {
  readonly jobId: string;
  readonly logger: Logger;
}

/** A backup that begins, as its row. */
export type BegunBackup = Omit<NewBackupJob, 'status' | 'parent_backup_id' | 'chain_id' | 'backup_type'>;

export interface ReadersLimit {
  /** Milliseconds. */
  readonly limit: number;
  readonly signal: AbortSignal;
  readonly logger: Logger;
}

export interface ChainManager {
  /** Runs `work` as the one writer of a disk, on whatever machine others are. Throws BACKUP_IN_PROGRESS, LEASE_LOST. */
  withWriter<T>(repositoryId: string, place: DiskPlace, writer: ChainWriter, work: (guard: Guard) => Promise<T>): Promise<T>;
  /** Enters a full that has begun. There is a chain once it completes; others of the disk stay as they are. */
  createChain(full: BegunBackup): Promise<void>;
  /** Enters a backup that has begun on `parentId`. Throws PARENT_NOT_FOUND unless that is a completed backup of the same disk. */
  addToChain(child: BegunBackup, type: 'incremental' | 'differential', parentId: string): Promise<void>;
  /** After the commit, and only then: the newest backup of its chain is this one. */
  completeBackup(backup: CompletedBackup): Promise<void>;
  /** Of each disk the newest chain first. */
  listChains(filter: ChainFilter): Promise<readonly ChainListing[]>;
  /** By its id, from the catalog. Throws BACKUP_NOT_FOUND. */
  getChain(chainId: string): Promise<ChainListing>;
  /** Reads the folder of its disk and compares with the catalog. Throws BACKUP_NOT_FOUND for a chain of which nothing is there. */
  validateChain(repository: Repository, place: DiskPlace, chainId: string): Promise<ChainValidity>;
  /**
   * What a delete would remove. Throws IMMUTABLE_RETENTION_ACTIVE, HOLD_ACTIVE and CLOCK_JUMPED for what is protected, BACKUP_HAS_DEPENDENTS, and
   * CHAIN_CORRUPT while a younger backup is lost that may need this one.
   */
  planDelete(repository: Repository, backup: BackupJob): Promise<DeletePlan>;
  /** Waits until nobody reads the backup. Throws BACKUP_IN_USE after the limit. */
  waitForReaders(backupId: string, wait: ReadersLimit): Promise<void>;
}

export function openChainManager(catalog: Catalog, owner: Owner): ChainManager {
  return {
    withWriter: (repositoryId, place, writer, work) => withLease(catalog, { repositoryId, ...place, ...writer, owner }, work),
    createChain: (full) => {
      const chain = { backup_type: 'full', parent_backup_id: null, chain_id: full.id } as const;
      return insertBackupJob(catalog, { ...full, ...chain, status: 'running' });
    },
    addToChain: (child, type, parentId) => addToChain(catalog, child, type, parentId),
    completeBackup: (backup) => completeBackup(catalog, backup),
    listChains: (filter) => listChains(catalog, filter),
    getChain: (chainId) => getChain(catalog, chainId),
    validateChain: (repository, place, chainId) => validate(catalog, repository, place, chainId),
    planDelete: async (repository, backup) => {
      await refuseMissing(catalog, repository, backup);
      return planFiles(repository, backup, await knownProtection(catalog, backup));
    },
    waitForReaders: (backupId, wait) => waitForReaders(catalog, backupId, { ...wait, owner }),
  };
}

function addToChain(catalog: Catalog, child: BegunBackup, type: 'incremental' | 'differential', parentId: string): Promise<void> {
  return catalog.transaction(async (unit) => {
    const parent = await findBackupJob(unit, parentId);
    const sameDisk =
      parent?.vm_context_id === child.vm_context_id && parent.disk_id === child.disk_id && parent.repository_id === child.repository_id;
    if (parent?.status !== 'completed' || !sameDisk) {
      const what = !parent ? 'is not in the catalog' : sameDisk ? `is ${parent.status}` : 'is of another disk';
      throw new ChainkeepError('PARENT_NOT_FOUND', `backup ${child.id} cannot stand on ${parentId}, which ${what}`, {
        advice: 'only a completed backup of the same disk is a parent; start a new chain with --type full',
        context: { backup_id: child.id, parent_backup_id: parentId },
      });
    }
    const chain = { backup_type: type, parent_backup_id: parentId, chain_id: parent.chain_id ?? parentId } as const;
    await insertBackupJob(unit, { ...child, ...chain, status: 'running' });
  });
}

async function getChain(catalog: Catalog, chainId: string): Promise<ChainListing> {
  const full = await findBackupJob(catalog, chainId);
  const chains = full
    ? await listChains(catalog, { vmContextId: full.vm_context_id, diskId: full.disk_id, repositoryId: full.repository_id })
    : [];
  const chain = chains.find(({ id }) => id === chainId);
  if (chain) return chain;
  throw new ChainkeepError('BACKUP_NOT_FOUND', `no chain has the id "${chainId}"`, {
    advice: 'see what there is with: chainkeep chain --vm NAME',
    context: { chain_id: chainId },
  });
}

/** The rules look at the repository; that a member is no completed backup in the catalog, or is lost, only the catalog knows. */
async function validate(catalog: Catalog, repository: Repository, place: DiskPlace, chainId: string): Promise<ChainValidity> {
  const { sidecars, damaged } = await repository.readDisk(place);
  const found = validateChain(chainId, sidecars, damaged);
  const rows = await findBackupJobs(
    catalog,
    found.backups.map(({ backup_id }) => backup_id),
  );
  const status = new Map(rows.map((row) => [row.id, row.status]));
  const fault = (backupId: string, what: string) => ({ backupId, error: notCompleted(backupId, what) });
  const uncompleted = found.backups.flatMap(({ backup_id: id }) =>
    status.get(id) === 'completed' ? [] : [fault(id, `is ${status.get(id) ?? 'not known'} in the catalog`)],
  );
  const there = new Set([...sidecars.map(({ backup_id }) => backup_id), ...damaged.keys()]);
  const known = await selectBackupJobs(catalog, { ...place, repositoryId: repository.id, chainIds: [chainId], statuses: ['completed'] });
  const lost = known.filter(({ id }) => !there.has(id)).map(({ id }) => fault(id, 'is not in the repository'));
  return { backups: found.backups, faults: [...found.faults, ...uncompleted, ...lost] };
}

function notCompleted(backupId: string, what: string): ChainkeepError {
  return new ChainkeepError('CHAIN_CORRUPT', `backup ${backupId} of the chain ${what}`, {
    advice: 'compare the catalog with the repository: chainkeep repo rescan NAME',
    context: { backup_id: backupId },
  });
}

/** A younger backup that the catalog calls completed and the repository has lost may need this one. */
async function refuseMissing(catalog: Catalog, repository: Repository, backup: BackupJob): Promise<void> {
  const place = { vmContextId: backup.vm_context_id, diskId: backup.disk_id };
  const rows = await selectBackupJobs(catalog, { ...place, repositoryId: backup.repository_id, statuses: ['completed'] });
  const { sidecars, damaged } = await repository.readDisk(place);
  const there = new Set([...sidecars.map((sidecar) => sidecar.backup_id), ...damaged.keys()]);
  const lost = rows.find((row) => row.id > backup.id && !there.has(row.id));
  if (!lost) return;
  throw new ChainkeepError('CHAIN_CORRUPT', `backup ${lost.id} of the same disk is missing in the repository, and may need ${backup.id}`, {
    advice: 'bring its files back from a copy, or delete the missing one first',
    context: { backup_id: backup.id, missing_backup_id: lost.id },
  });
}

/** Lost files of locks and holds protect all the same: only a lifted hold and a date that is over end it. */
async function knownProtection(catalog: Catalog, backup: BackupJob): Promise<KnownProtection> {
  const holds = (await listHolds(catalog, [backup.id])).filter(({ lifted_at }) => lifted_at === null);
  return {
    lockedUntil: backup.protected_until,
    holds: holds.map(({ id, reason, created_by, created_at }) => ({ holdId: id, reason, createdBy: created_by, createdAt: created_at })),
  };
}

/** A row of a run that failed has no files: there is nothing to plan but the row. */
async function planFiles(repository: Repository, backup: BackupJob, known: KnownProtection): Promise<DeletePlan> {
  const place = { vmContextId: backup.vm_context_id, diskId: backup.disk_id };
  try {
    return await repository.planDelete(place, backup.id, known);
  } catch (error) {
    if (!isChainkeepError(error, 'BACKUP_NOT_FOUND') || backup.status === 'running') throw error;
    return { place, backupId: backup.id, files: [], freedBytes: 0 };
  }
}
