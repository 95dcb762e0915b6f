// The table of protected VMs (vm_replication_contexts).
// It must not take a name for an identity: names are not unique, and differ by case, accents and blanks.

import { ChainkeepError } from '../plumbing/errors.ts';
import type { Catalog } from './catalog.ts';
import { instant, integer, json, nullable, oneOf, text } from './column.ts';
import { sql } from './sql.ts';
import { columnList, defineTable, insert, query, remove, select, selectOne, type TableRow, update } from './table.ts';

export const VM_CONTEXTS = defineTable('vm_replication_contexts', {
  context_id: text(191),
  external_id: nullable(text(255)),
  vm_name: text(255),
  platform: oneOf(['vmware', 'kvm', 'hyperv', 'cloudstack', 'aws', 'other']),
  metadata: nullable(json),
  policy_id: nullable(text(64)),
  created_at: instant,
  updated_at: instant,
});

export type VmContext = TableRow<typeof VM_CONTEXTS>;

export type NewVmContext = Pick<VmContext, 'context_id' | 'vm_name' | 'created_at'> & Partial<VmContext>;

const SUMMARY = {
  ...VM_CONTEXTS.columns,
  backup_count: integer,
  size_bytes: integer,
  last_backup_at: nullable(instant),
};

/** Throws CONFIG_INVALID for a name that is too long or no valid text. */
export function insertVmContext(catalog: Catalog, context: NewVmContext): Promise<void> {
  return insert(catalog, VM_CONTEXTS, context);
}

/** The VM that `findVmContext` finds, else `context` as a new one; of several processes that ask for the same new name, one makes it. */
export function findOrMakeVmContext(catalog: Catalog, context: NewVmContext): Promise<VmContext> {
  return catalog.transaction(async (unit) => {
    const found = await findVmContext(unit, context.vm_name);
    if (found) return found;
    await insertVmContext(unit, context);
    return getVmContext(unit, context.context_id);
  });
}

/** Takes a VM back that never had a backup, not even one that failed, and that no other job but `jobId` is about at this moment. */
export async function removeUnusedVmContext(catalog: Catalog, contextId: string, jobId: string): Promise<void> {
  const unused = sql`not exists (select 1 from backup_jobs where vm_context_id = ${contextId})`;
  const unwanted = sql`not exists (
    select 1 from job_tracking where context_id = ${contextId} and status in ('pending', 'running') and id <> ${jobId})`;
  await catalog.transaction((unit) => remove(unit, VM_CONTEXTS, sql`context_id = ${contextId} and ${unused} and ${unwanted}`));
}

/** An id, or a name that fits one VM; undefined when nothing fits. Throws VM_AMBIGUOUS with the ids when a name fits several. */
export async function findVmContext(catalog: Catalog, nameOrId: string): Promise<VmContext | undefined> {
  const byId = await selectOne(catalog, VM_CONTEXTS, sql`where context_id = ${nameOrId}`);
  if (byId) return byId;
  const named = await select(catalog, VM_CONTEXTS, sql`where vm_name = ${nameOrId} order by context_id`);
  if (named.length < 2) return named[0];
  const ids = named.map((context) => context.context_id);
  throw new ChainkeepError('VM_AMBIGUOUS', `${named.length} VMs are called "${nameOrId}": ${ids.join(', ')}`, {
    advice: 'give the id of the one you mean instead of the name',
    context: { vm: nameOrId, vm_context_ids: ids },
  });
}

/** The exact id. */
export function findVmContextById(catalog: Catalog, contextId: string): Promise<VmContext | undefined> {
  return selectOne(catalog, VM_CONTEXTS, sql`where context_id = ${contextId}`);
}

/** Throws VM_NOT_FOUND and VM_AMBIGUOUS. */
export async function getVmContext(catalog: Catalog, nameOrId: string): Promise<VmContext> {
  const context = await findVmContext(catalog, nameOrId);
  if (context) return context;
  throw new ChainkeepError('VM_NOT_FOUND', `no VM is called "${nameOrId}"`, {
    advice: 'names are case-sensitive; see what there is with: chainkeep vms',
    context: { vm: nameOrId },
  });
}

export async function updateVmContext(catalog: Catalog, contextId: string, set: Partial<VmContext>): Promise<void> {
  await update(catalog, VM_CONTEXTS, set, sql`context_id = ${contextId}`);
}

/** Every VM by name, with the number, the stored bytes and the newest end of its completed backups. */
export function listVmContexts(catalog: Catalog): Promise<readonly (VmContext & VmTotals)[]> {
  return query(
    catalog,
    SUMMARY,
    sql`select ${columnList(VM_CONTEXTS, 'c.')}, coalesce(b.backup_count, 0) as backup_count, coalesce(b.size_bytes, 0) as size_bytes, b.last_backup_at
      from vm_replication_contexts c left join (
        select vm_context_id, count(*) as backup_count, sum(size_bytes) as size_bytes, max(completed_at) as last_backup_at
        from backup_jobs where status = 'completed' group by vm_context_id
      ) b on b.vm_context_id = c.context_id
      order by c.vm_name, c.context_id`,
  );
}

export interface VmTotals {
  readonly backup_count: number;
  readonly size_bytes: number;
  readonly last_backup_at: string | null;
}
