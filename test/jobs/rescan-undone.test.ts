// Every transaction of a rescan is undone once and run again, as MariaDB does for a deadlock: nothing is lost, and nothing counts twice.

import { expect, it } from 'vitest';
import { getRepository } from '../../src/catalog/backup-repositories.ts';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { openChainManager } from '../../src/control/chain-manager.ts';
import { installationId } from '../../src/control/installation.ts';
import { currentOwner } from '../../src/control/owner.ts';
import { RepositoryManager } from '../../src/control/repository-manager.ts';
import { rescan } from '../../src/jobs/kinds/rescan.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { newBackup, openRescanSite } from './rescan-site.ts';

class Undone extends Error {}

/** The work of each transaction runs, is taken back, and runs again. */
function undoingOnce(catalog: Catalog): Catalog {
  return {
    dialect: catalog.dialect,
    clock: catalog.clock,
    all: (statement) => catalog.all(statement),
    run: (statement, options) => catalog.run(statement, options),
    transaction: async (work) => {
      const first = catalog.transaction(async (unit) => {
        await work(unit);
        throw new Undone();
      });
      await expect(first).rejects.toThrow(Undone);
      return catalog.transaction(work);
    },
    close: () => catalog.close(),
  };
}

it('enters every backup, its VM, its chain and the place of a parent that is gone', async () => {
  const site = await openRescanSite();
  const full = newBackup();
  const child = newBackup(full);
  const orphan = newBackup(newBackup(null, { vm_context_id: full.vm_context_id, disk_id: 1 }), { disk_id: 1 });
  for (const backup of [full, child, orphan]) await site.put(backup);
  const catalog = undoingOnce(site.catalog);
  const owner = await currentOwner(catalog);
  const repositories = new RepositoryManager({
    catalog,
    clock: systemClock,
    installationId: () => installationId(catalog),
    keys: () => Promise.reject(new Error('no secret is needed')),
  });
  const environment = { catalog, clock: systemClock, owner, repositories, chains: openChainManager(catalog, owner) };
  const outcome = await rescan(environment, await getRepository(catalog, 'r'), {});
  expect(outcome).toMatchObject({ found: 3, added: 3, changed: 0, missing: 0, in_progress: 0 });
  for (const { backup_id } of [full, child, orphan]) expect(await site.row(backup_id), backup_id).toMatchObject({ status: 'completed' });
  expect(await site.row(orphan.parent_backup_id ?? '')).toMatchObject({ status: 'failed' });
  const [chain] = await site.app.listChains({ vm: full.vm_context_id, disk_id: 0 });
  expect(chain).toMatchObject({ total_backups: 2, latest_backup_id: child.backup_id });
  expect(await site.rescan()).toMatchObject({ found: 3, added: 0, changed: 0 });
});
