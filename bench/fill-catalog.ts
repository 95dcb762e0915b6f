// Fills a new catalog with backups for the listing benchmark: 100 VMs, chains of 10, through the catalog's own functions.

import { join } from 'node:path';
import { insertRepository } from '../src/catalog/backup-repositories.ts';
import { completeBackup } from '../src/catalog/complete-backup.ts';
import { openCatalog } from '../src/catalog/open-catalog.ts';
import { insertVmContext } from '../src/catalog/vm-contexts.ts';
import { isoTime, newId, systemClock } from '../src/plumbing/clock.ts';

const [home = '', count = '10000'] = process.argv.slice(2);
const catalog = await openCatalog({ url: `sqlite:${join(home, 'catalog.sqlite')}`, clock: systemClock });
const now = (): string => isoTime(systemClock.now());
const repository = newId(systemClock);
await insertRepository(catalog, {
  id: repository,
  name: 'default',
  repository_type: 'local',
  config: { path: join(home, 'r') },
  created_at: now(),
});
const vms = Array.from({ length: 100 }, (_, index) => ({ id: newId(systemClock), name: `vm-${index}` }));
for (const vm of vms) await insertVmContext(catalog, { context_id: vm.id, vm_name: vm.name, created_at: now() });
const chains = new Map<string, string[]>();
for (let index = 0; index < Number(count); index++) {
  const vm = vms[index % vms.length] ?? { id: '', name: '' };
  const chain = chains.get(vm.id) ?? [];
  const id = newId(systemClock);
  const fresh = chain.length % 10 === 0;
  const full = fresh ? id : (chain[chain.length - (chain.length % 10)] ?? id);
  await completeBackup(catalog, {
    id,
    vm_context_id: vm.id,
    vm_name: vm.name,
    disk_id: 0,
    repository_id: repository,
    backup_type: fresh ? 'full' : 'incremental',
    repository_path: `vms/${vm.id}/disk-0/${id}.qcow2`,
    parent_backup_id: fresh ? null : (chain.at(-1) ?? null),
    chain_id: full,
    size_bytes: 1_000_000 + index,
    total_bytes: 8 * 2 ** 30,
    restore_point_id: newId(systemClock),
    created_at: now(),
    started_at: now(),
    completed_at: now(),
  });
  chains.set(vm.id, [...chain, id]);
}
await catalog.close();
