// A delete whose files are gone when the database refuses to take its row away: the catalog does not go on calling it a backup.

import { existsSync } from 'node:fs';
import { expect, it } from 'vitest';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { resolveTrackedJob } from '../../src/catalog/job-tracking.ts';
import type { Owner } from '../../src/catalog/owner-fields.ts';
import { openChainManager } from '../../src/control/chain-manager.ts';
import { installationId } from '../../src/control/installation.ts';
import { currentOwner } from '../../src/control/owner.ts';
import { RepositoryManager } from '../../src/control/repository-manager.ts';
import { deleteBackup } from '../../src/jobs/kinds/delete.ts';
import type { JobEnvironment } from '../../src/jobs/kinds/job-environment.ts';
import { recoverDeadJobs } from '../../src/jobs/recover.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { ChainkeepError } from '../../src/plumbing/errors.ts';
import { newBackup, openRescanSite, type RescanSite } from './rescan-site.ts';

/** The first `times` deletes of a backup's row are refused, each with its whole transaction. */
function refusing(catalog: Catalog, times: number): Catalog {
  let left = times;
  const refuse = (unit: Catalog): Catalog => ({
    ...unit,
    run: async (statement, options) => {
      if (statement.sql.startsWith('delete from backup_jobs') && left-- > 0) {
        throw new ChainkeepError('CATALOG_FAILED', 'the database refuses');
      }
      return unit.run(statement, options);
    },
  });
  return {
    dialect: catalog.dialect,
    clock: catalog.clock,
    all: (statement) => catalog.all(statement),
    run: (statement, options) => catalog.run(statement, options),
    transaction: (work) => catalog.transaction((unit) => work(refuse(unit))),
    close: () => catalog.close(),
  };
}

function environmentOf(catalog: Catalog, owner: Owner): JobEnvironment {
  const repositories = new RepositoryManager({
    catalog,
    clock: systemClock,
    installationId: () => installationId(catalog),
    keys: () => Promise.reject(new Error('no secret is needed')),
  });
  return { catalog, clock: systemClock, owner, repositories, chains: openChainManager(catalog, owner) };
}

async function deleteRefused(site: RescanSite, times: number) {
  const backup = newBackup();
  await site.put(backup);
  await site.rescan();
  const row = await site.row(backup.backup_id);
  if (!row) throw new Error('the rescan entered nothing');
  const self = await currentOwner(site.catalog);
  // A process of this machine that is gone when the delete has ended.
  const owner = { ...self, pid: 2 ** 22 + 1 };
  const work = deleteBackup(environmentOf(refusing(site.catalog, times), owner), row, false, {});
  await expect(work).rejects.toMatchObject({ code: 'CATALOG_FAILED', message: 'the database refuses' });
  expect(existsSync(site.path(backup, 'json'))).toBe(false);
  const [job] = (await site.app.jobs.list({ limit: 1 })).jobs;
  return { id: backup.backup_id, jobId: job?.job_id ?? '', self };
}

it('once: its row goes all the same', async () => {
  const site = await openRescanSite();
  const { id, jobId } = await deleteRefused(site, 1);
  expect(await site.row(id)).toBeUndefined();
  expect(await resolveTrackedJob(site.catalog, jobId)).toMatchObject({ status: 'failed', metadata: { error_code: 'CATALOG_FAILED' } });
});

it('again: the job does not end, and the next command finishes it', async () => {
  const site = await openRescanSite();
  const { id, jobId, self } = await deleteRefused(site, 2);
  expect(await site.row(id)).toMatchObject({ status: 'completed' });
  expect(await resolveTrackedJob(site.catalog, jobId)).toMatchObject({ status: 'running' });
  await recoverDeadJobs(environmentOf(site.catalog, self));
  expect(await site.row(id)).toBeUndefined();
  expect(await resolveTrackedJob(site.catalog, jobId)).toMatchObject({ status: 'completed', error_message: null });
});
