// The VMs of the backups that a rescan found: those the catalog does not have are entered, and a name follows the newest backup.
// It must not take back a name that was given in the catalog: a name that differs from the newest known backup's was.

import { newestBackupOf } from '../../catalog/backup-jobs.ts';
import { listPolicyIds } from '../../catalog/backup-policies.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { findVmContextById, insertVmContext, updateVmContext } from '../../catalog/vm-contexts.ts';
import { isoTime, timeOfId } from '../../plumbing/clock.ts';
import type { Sidecar } from '../../repository/sidecar-fields.ts';
import type { Item } from './rescan-batch.ts';

/** VM context id → its name in the catalog. */
export type VmNames = ReadonlyMap<string, string>;

export async function enterVms(
  unit: Catalog,
  items: readonly Item[],
): Promise<{ readonly names: VmNames; readonly policies: ReadonlySet<string> }> {
  const names = new Map<string, string>();
  for (const [contextId, found] of Map.groupBy(items, ({ place }) => place.vmContextId)) {
    const sidecars = found.flatMap(({ sidecar }) => sidecar ?? []).sort((a, b) => (a.backup_id < b.backup_id ? -1 : 1));
    names.set(contextId, await enterVm(unit, contextId, sidecars));
  }
  const needsPolicies = items.some(({ sidecar }) => (sidecar?.policy_id ?? null) !== null);
  return { names, policies: needsPolicies ? await listPolicyIds(unit) : new Set() };
}

/** `sidecars`: oldest first. Answers the name. */
async function enterVm(unit: Catalog, contextId: string, sidecars: readonly Sidecar[]): Promise<string> {
  const known = await findVmContextById(unit, contextId);
  const [newest, oldest] = [sidecars.at(-1), sidecars[0]];
  if (!known) {
    // Our ids begin with the time at which they were made; else the oldest backup is as near as one can come.
    const made = timeOfId(contextId);
    const at = made > 0 ? isoTime(made) : (oldest?.started_at ?? isoTime(unit.clock.now()));
    const vm_name = newest?.vm_name ?? contextId;
    const external_id = newest?.external_id ?? null;
    await insertVmContext(unit, { context_id: contextId, vm_name, external_id, created_at: at, updated_at: at });
    return vm_name;
  }
  if (!newest) return known.vm_name;
  const latest = await newestBackupOf(unit, contextId);
  const follows = latest ? latest.vm_name === known.vm_name && newest.backup_id > latest.id : known.vm_name === contextId;
  if (!follows || newest.vm_name === known.vm_name) return known.vm_name;
  await updateVmContext(unit, contextId, { vm_name: newest.vm_name, external_id: newest.external_id });
  return newest.vm_name;
}
