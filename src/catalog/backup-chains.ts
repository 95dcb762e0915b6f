// The table of chains: for each, its full, its newest completed backup, and the totals.
// It must not be written but by `refreshChain`: everything in it follows from the rows of its backups.

import { isDeepStrictEqual } from 'node:util';
import { BACKUP_JOBS } from './backup-jobs.ts';
import { type BackupListing, listChainMembers } from './backup-listing.ts';
import type { Catalog } from './catalog.ts';
import { instant, integer, text } from './column.ts';
import { sql, where } from './sql.ts';
import { columnList, defineTable, insert, query, remove, selectOne, type TableRow, update } from './table.ts';

export const BACKUP_CHAINS = defineTable('backup_chains', {
  id: text(64),
  vm_context_id: text(191),
  disk_id: integer,
  repository_id: text(64),
  full_backup_id: text(64),
  latest_backup_id: text(64),
  total_backups: integer,
  total_size_bytes: integer,
  created_at: instant,
  updated_at: instant,
});

export type BackupChain = TableRow<typeof BACKUP_CHAINS>;

/** A chain with the name of its repository and its completed backups, the full first. */
export interface ChainListing extends BackupChain {
  readonly repository: string;
  readonly backups: readonly BackupListing[];
}

export interface ChainFilter {
  readonly vmContextId: string;
  readonly diskId?: number;
  readonly repositoryId?: string;
}

/** Of each disk the newest chain first: the one with the newest completed full. */
export async function listChains(catalog: Catalog, filter: ChainFilter): Promise<readonly ChainListing[]> {
  const condition = where([
    sql`h.vm_context_id = ${filter.vmContextId}`,
    filter.diskId === undefined ? undefined : sql`h.disk_id = ${filter.diskId}`,
    filter.repositoryId === undefined ? undefined : sql`h.repository_id = ${filter.repositoryId}`,
  ]);
  const chains = await query(
    catalog,
    { ...BACKUP_CHAINS.columns, repository: text(255) },
    sql`select ${columnList(BACKUP_CHAINS, 'h.')}, r.name as repository
      from backup_chains h join backup_jobs f on f.id = h.full_backup_id join backup_repositories r on r.id = h.repository_id
      ${condition} order by h.disk_id, f.completed_at desc, f.id desc`,
  );
  const members = await listChainMembers(catalog, { ...filter, statuses: ['completed'] });
  const byChain = new Map<string, BackupListing[]>(chains.map((chain) => [chain.id, []]));
  for (const { chain_id: chainId, ...backup } of members.toReversed()) byChain.get(chainId ?? '')?.push(backup);
  return chains.map((chain) => ({ ...chain, backups: byChain.get(chain.id) ?? [] }));
}

/** The chain of the newest completed full of a disk in a repository. */
export async function currentChain(catalog: Catalog, disk: Required<ChainFilter>): Promise<BackupChain | undefined> {
  const chains = await query(
    catalog,
    BACKUP_CHAINS.columns,
    sql`select ${columnList(BACKUP_CHAINS, 'h.')} from backup_chains h join backup_jobs f on f.id = h.full_backup_id
      where h.vm_context_id = ${disk.vmContextId} and h.disk_id = ${disk.diskId} and h.repository_id = ${disk.repositoryId}
      order by f.completed_at desc, f.id desc limit 1`,
  );
  return chains[0];
}

/**
 * Makes the row of a chain what its completed backups say; the row goes when its full is gone. Call it in the transaction that changed a backup.
 * `without`: a backup that is about to be deleted.
 */
export async function refreshChain(catalog: Catalog, chainId: string, without = ''): Promise<void> {
  const members = sql`where chain_id = ${chainId} and status = 'completed' and id <> ${without}`;
  const full = await selectOne(catalog, BACKUP_JOBS, sql`${members} and backup_type = 'full' order by created_at`);
  const latest = await selectOne(catalog, BACKUP_JOBS, sql`${members} order by completed_at desc, id desc`);
  if (!full || !latest) {
    await remove(catalog, BACKUP_CHAINS, sql`id = ${chainId}`);
    return;
  }
  const totals = { total_backups: integer, total_size_bytes: integer };
  const [sums] = await query(
    catalog,
    totals,
    sql`select count(*) as total_backups, sum(size_bytes) as total_size_bytes from backup_jobs ${members}`,
  );
  const chain = { ...sums, full_backup_id: full.id, latest_backup_id: latest.id };
  const updated_at = latest.completed_at ?? latest.created_at;
  const known = await selectOne(catalog, BACKUP_CHAINS, sql`where id = ${chainId}`);
  if (!known) {
    const { vm_context_id, disk_id, repository_id, created_at } = full;
    await insert(catalog, BACKUP_CHAINS, { id: chainId, vm_context_id, disk_id, repository_id, created_at, updated_at, ...chain });
    return;
  }
  const { full_backup_id, latest_backup_id, total_backups, total_size_bytes } = known;
  if (isDeepStrictEqual({ total_backups, total_size_bytes, full_backup_id, latest_backup_id }, chain)) return;
  // The time at which its newest backup completed, so that a rescan finds the same again; where it lost one, the database takes the present one.
  const moved = latest.id > latest_backup_id ? { updated_at } : {};
  await update(catalog, BACKUP_CHAINS, { ...chain, ...moved }, sql`id = ${chainId}`);
}

/** Bytes of the images of all completed backups in a repository, as their chains count them. */
export async function sumStoredBytes(catalog: Catalog, repositoryId: string): Promise<number> {
  const [row] = await catalog.all(
    sql`select coalesce(sum(total_size_bytes), 0) as bytes from backup_chains where repository_id = ${repositoryId}`,
  );
  return Number(row?.bytes ?? 0);
}
