// The table of leases: who may write to one disk's folder in one repository.
// It must not judge whether an owner is alive: control/owner.ts does, and is asked inside the transaction.

import { isoTime, newId } from '../plumbing/clock.ts';
import type { Catalog } from './catalog.ts';
import { instant, integer, text } from './column.ts';
import { type Owner, ownerColumn } from './owner-fields.ts';
import { sql } from './sql.ts';
import { defineTable, insert, remove, select, selectOne, type TableRow, update } from './table.ts';

export const LEASES = defineTable('leases', {
  id: text(64),
  repository_id: text(64),
  vm_context_id: text(191),
  disk_id: integer,
  job_id: text(64),
  owner: ownerColumn,
  acquired_at: instant,
  expires_at: instant,
});

export type Lease = TableRow<typeof LEASES>;

export interface LeaseRequest {
  readonly repositoryId: string;
  readonly vmContextId: string;
  readonly diskId: number;
  readonly jobId: string;
  readonly owner: Owner;
  /** Milliseconds from now, unless renewed. */
  readonly expiry: number;
}

/** `taken`: the new lease, and the one it replaced. `held`: the lease that stands in the way. */
export type LeaseAnswer = { readonly taken: Lease; readonly replaced: Lease | undefined } | { readonly held: Lease };

/** `mayReplace` decides about a lease that is there: expired, or its owner dead. It is called in the transaction and must answer at once. */
export function acquireLease(catalog: Catalog, request: LeaseRequest, mayReplace: (lease: Lease) => boolean): Promise<LeaseAnswer> {
  const { repositoryId, vmContextId, diskId, jobId, owner } = request;
  return catalog.transaction(async (unit) => {
    const found = await selectOne(
      unit,
      LEASES,
      sql`where repository_id = ${repositoryId} and vm_context_id = ${vmContextId} and disk_id = ${diskId}`,
    );
    if (found && !mayReplace(found)) return { held: found };
    if (found) await releaseLease(unit, found.id);
    const now = unit.clock.now();
    const taken: Lease = {
      id: newId(unit.clock),
      repository_id: repositoryId,
      vm_context_id: vmContextId,
      disk_id: diskId,
      job_id: jobId,
      owner,
      acquired_at: isoTime(now),
      expires_at: isoTime(now + request.expiry),
    };
    await insert(unit, LEASES, taken);
    return { taken, replaced: found };
  });
}

/** Moves the end of a lease. False when it is gone or has expired: then somebody else may have written since. */
export function renewLease(catalog: Catalog, id: string, expiry: number): Promise<boolean> {
  return catalog.transaction(async (unit) => {
    if (!(await isHeld(unit, id))) return false;
    await update(unit, LEASES, { expires_at: isoTime(unit.clock.now() + expiry) }, sql`id = ${id}`);
    return true;
  });
}

/** Whether the lease is still there and has not expired. */
export async function isHeld(catalog: Catalog, id: string): Promise<boolean> {
  const lease = await selectOne(catalog, LEASES, sql`where id = ${id}`);
  return lease !== undefined && Date.parse(lease.expires_at) > catalog.clock.now();
}

export async function releaseLease(catalog: Catalog, id: string): Promise<void> {
  await remove(catalog, LEASES, sql`id = ${id}`);
}

export function listLeases(catalog: Catalog): Promise<readonly Lease[]> {
  return select(catalog, LEASES, sql`order by acquired_at`);
}
