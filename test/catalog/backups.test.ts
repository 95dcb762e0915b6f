// The rows of backups and chains through a life: begun, completed, failed, deleted, forgotten; and how they are found.

import { describe, expect, it } from 'vitest';
import { currentChain, listChains } from '../../src/catalog/backup-chains.ts';
import {
  countBackupJobs,
  findBackupJob,
  insertBackupJob,
  listDependents,
  resolveBackupJob,
  selectBackupJobs,
  updateBackupJob,
} from '../../src/catalog/backup-jobs.ts';
import { listBackups } from '../../src/catalog/backup-listing.ts';
import { countBackupsByRepository, deleteRepository } from '../../src/catalog/backup-repositories.ts';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { completeBackup, deleteBackupJob, forgetBackups } from '../../src/catalog/complete-backup.ts';
import { listVmContexts, updateVmContext } from '../../src/catalog/vm-contexts.ts';
import { addRepository, addVm, backupRow, ON_MARIADB, openScratch } from './scratch-catalog.ts';

const CHAIN = { chain_id: 'c1' };
const DISK = { vmContextId: 'vm-1', diskId: 0, repositoryId: 'repo-1' };

async function openFilled(): Promise<Catalog> {
  const { catalog } = await openScratch();
  await addRepository(catalog);
  await addVm(catalog);
  return catalog;
}

/** full-1 and two incrementals, complete, in chain c1. */
async function openChain(): Promise<Catalog> {
  const catalog = await openFilled();
  await completeBackup(catalog, backupRow('b1', 1, CHAIN));
  await completeBackup(catalog, backupRow('b2', 2, { ...CHAIN, backup_type: 'incremental', parent_backup_id: 'b1', size_bytes: 10 }));
  await completeBackup(catalog, backupRow('b3', 3, { ...CHAIN, backup_type: 'incremental', parent_backup_id: 'b2', size_bytes: 1 }));
  return catalog;
}

async function chainNow(catalog: Catalog) {
  const [chain] = await listChains(catalog, { vmContextId: 'vm-1' });
  return chain && [chain.full_backup_id, chain.latest_backup_id, chain.total_backups, chain.total_size_bytes];
}

describe('a chain', () => {
  it('begins with the completion of its full, and moves only when a backup completes', async () => {
    const catalog = await openFilled();
    await insertBackupJob(catalog, { ...backupRow('b1', 1, CHAIN), status: 'running', completed_at: null });
    expect(await chainNow(catalog)).toBeUndefined();
    await completeBackup(catalog, backupRow('b1', 1, CHAIN));
    expect(await chainNow(catalog)).toEqual(['b1', 'b1', 1, 100]);
    const child = backupRow('b2', 2, { ...CHAIN, backup_type: 'incremental', parent_backup_id: 'b1', size_bytes: 7 });
    await insertBackupJob(catalog, { ...child, status: 'running', completed_at: null });
    await updateBackupJob(catalog, 'b2', { status: 'failed', error_message: 'no' });
    expect(await chainNow(catalog)).toEqual(['b1', 'b1', 1, 100]);
    await completeBackup(catalog, child);
    await completeBackup(catalog, child);
    expect(await chainNow(catalog)).toEqual(['b1', 'b2', 2, 107]);
    expect(await findBackupJob(catalog, 'b2')).toMatchObject({ status: 'completed', error_message: null });
  });

  it('of a disk: the newest completed full is the current one, and is listed first, its full first', async () => {
    const catalog = await openChain();
    await completeBackup(catalog, backupRow('b4', 4, { chain_id: 'c2' }));
    // Late news of the old chain do not make it current.
    await completeBackup(catalog, backupRow('b5', 5, { ...CHAIN, backup_type: 'differential', parent_backup_id: 'b1' }));
    await completeBackup(catalog, backupRow('d1', 6, { chain_id: 'c3', disk_id: 1 }));
    const chains = await listChains(catalog, { vmContextId: 'vm-1' });
    expect(chains.map((chain) => [chain.id, chain.repository, chain.backups.map((backup) => backup.backup_id)])).toEqual([
      ['c2', 'repo-1', ['b4']],
      ['c1', 'repo-1', ['b1', 'b2', 'b3', 'b5']],
      ['c3', 'repo-1', ['d1']],
    ]);
    expect((await listChains(catalog, { vmContextId: 'vm-1', diskId: 1 })).map((chain) => chain.id)).toEqual(['c3']);
    expect(await currentChain(catalog, DISK)).toMatchObject({ id: 'c2' });
    expect(await currentChain(catalog, { ...DISK, diskId: 7 })).toBeUndefined();
  });

  it('shrinks when its newest is deleted and ends with its full; a parent is not deleted', async () => {
    const catalog = await openChain();
    await expect(deleteBackupJob(catalog, 'b2')).rejects.toMatchObject({ code: 'BACKUP_HAS_DEPENDENTS', context: { dependents: ['b3'] } });
    expect(await chainNow(catalog)).toEqual(['b1', 'b3', 3, 111]);
    await deleteBackupJob(catalog, 'b3');
    expect(await chainNow(catalog)).toEqual(['b1', 'b2', 2, 110]);
    await deleteBackupJob(catalog, 'b2');
    await deleteBackupJob(catalog, 'b1');
    await deleteBackupJob(catalog, 'b1');
    expect(await chainNow(catalog)).toBeUndefined();
    expect(await countBackupJobs(catalog, {})).toBe(0);
  });

  it('a failed child keeps its row and does not keep its parent', async () => {
    const catalog = await openChain();
    const failed = { ...backupRow('b4', 4, { ...CHAIN, backup_type: 'incremental', parent_backup_id: 'b3' }), status: 'failed' } as const;
    await insertBackupJob(catalog, failed);
    expect(await listDependents(catalog, 'b3')).toEqual([]);
    await deleteBackupJob(catalog, 'b3');
    expect(await findBackupJob(catalog, 'b4')).toMatchObject({ parent_backup_id: null, status: 'failed' });
    expect(await chainNow(catalog)).toEqual(['b1', 'b2', 2, 110]);
  });

  it('of a forgotten repository goes with all its rows, and then the repository can go', async () => {
    const catalog = await openChain();
    await addRepository(catalog, 'repo-2');
    await completeBackup(catalog, backupRow('other', 1, { chain_id: 'c9', repository_id: 'repo-2' }));
    expect(await countBackupsByRepository(catalog)).toEqual(
      new Map([
        ['repo-1', 3],
        ['repo-2', 1],
      ]),
    );
    expect(await forgetBackups(catalog, 'repo-1')).toBe(3);
    await deleteRepository(catalog, 'repo-1');
    expect((await listBackups(catalog, {})).map((backup) => backup.backup_id)).toEqual(['other']);
    expect((await listChains(catalog, { vmContextId: 'vm-1' })).map((chain) => chain.id)).toEqual(['c9']);
  });
});

describe('finding a backup', () => {
  it('by an id, by the beginning of one, within a filter', async () => {
    const catalog = await openFilled();
    await addVm(catalog, 'vm-2', 'db');
    for (const [index, id] of ['20261122t130000000-aaaaaaaa', '20261122t130000000-aaaaaaab', '20261122t13'].entries()) {
      await insertBackupJob(catalog, backupRow(id, index, index === 1 ? { vm_context_id: 'vm-2' } : {}));
    }
    expect((await resolveBackupJob(catalog, '20261122t130000000-aaaaaaab')).id).toBe('20261122t130000000-aaaaaaab');
    // A whole id wins over longer ones that begin with it.
    expect((await resolveBackupJob(catalog, '20261122t13')).id).toBe('20261122t13');
    expect((await resolveBackupJob(catalog, '20261122t130', { vmContextId: 'vm-2' })).id).toBe('20261122t130000000-aaaaaaab');
    await expect(resolveBackupJob(catalog, '20261122t130')).rejects.toMatchObject({
      code: 'BACKUP_AMBIGUOUS',
      context: { candidates: ['20261122t130000000-aaaaaaaa', '20261122t130000000-aaaaaaab'] },
    });
    for (const nothing of ['', 'x', '%', '20261122t130000000-aaaaaaabc']) {
      await expect(resolveBackupJob(catalog, nothing)).rejects.toMatchObject({ code: 'BACKUP_NOT_FOUND' });
    }
  });

  it('by filters, the newest first, with the names of now', async () => {
    const catalog = await openChain();
    await insertBackupJob(catalog, { ...backupRow('b4', 4), status: 'failed', restore_point_id: 'rp' });
    await updateVmContext(catalog, 'vm-1', { vm_name: 'web-new' });
    const all = await listBackups(catalog, {});
    expect(all.map((backup) => backup.backup_id)).toEqual(['b4', 'b3', 'b2', 'b1']);
    expect(all[3]).toEqual({
      backup_id: 'b1',
      vm_name: 'web-new',
      vm_context_id: 'vm-1',
      disk_id: 0,
      backup_type: 'full',
      status: 'completed',
      parent_backup_id: null,
      repository: 'repo-1',
      size_bytes: 100,
      total_bytes: 1000,
      created_at: '2026-11-22T13:01:00.000Z',
      completed_at: '2026-11-22T13:01:00.000Z',
    });
    const ids = async (filter: Parameters<typeof selectBackupJobs>[1], limit?: number) =>
      (await selectBackupJobs(catalog, filter, limit)).map((backup) => backup.id);
    expect(await ids({ statuses: ['completed'] }, 1)).toEqual(['b3']);
    expect(await ids({ statuses: ['failed', 'cancelled'] })).toEqual(['b4']);
    expect(await ids({ restorePointId: 'rp' })).toEqual(['b4']);
    expect(await ids({ chainIds: ['c1'], diskId: 0, repositoryId: 'repo-1', vmContextId: 'vm-1' })).toEqual(['b3', 'b2', 'b1']);
    expect(await ids({ vmContextId: 'vm-2' })).toEqual([]);
    expect(await countBackupJobs(catalog, { statuses: ['completed'] })).toBe(3);
  });

  it('page by page, each backup once and in order, also those of one moment', async () => {
    const catalog = await openFilled();
    for (let minute = 0; minute < 7; minute += 1) await insertBackupJob(catalog, backupRow(`p${minute}`, Math.floor(minute / 3)));
    const all = await listBackups(catalog, { vmContextId: 'vm-1' });
    const paged: string[] = [];
    for (let after: { id: string; created_at: string } | undefined; ; ) {
      const page = await listBackups(catalog, { vmContextId: 'vm-1' }, { limit: 2, ...(after && { after }) });
      paged.push(...page.map((backup) => backup.backup_id));
      const last = page.at(-1);
      if (!last) break;
      expect(page.length).toBeLessThanOrEqual(2);
      after = { id: last.backup_id, created_at: last.created_at };
    }
    expect(paged).toEqual(all.map((backup) => backup.backup_id));
    expect(paged.length).toBeGreaterThanOrEqual(7);
  });

  it('the VMs with their totals, those without backups too', async () => {
    const catalog = await openChain();
    await insertBackupJob(catalog, { ...backupRow('b4', 4), status: 'failed' });
    await addVm(catalog, 'vm-2', 'alone');
    const vms = (await listVmContexts(catalog)).map((vm) => [vm.vm_name, vm.backup_count, vm.size_bytes, vm.last_backup_at]);
    expect(vms).toEqual([
      ['alone', 0, 0, null],
      ['web', 3, 111, '2026-11-22T13:03:00.000Z'],
    ]);
  });

  // MariaDB scans three rows whatever indexes there are; the benchmark measures a million on both.
  it.skipIf(ON_MARIADB)('uses an index for every listing', async () => {
    const catalog = await openFilled();
    const seen: string[] = [];
    const watching: Catalog = {
      ...catalog,
      dialect: catalog.dialect,
      clock: catalog.clock,
      all: async (statement) => {
        const plan = await catalog.all({ sql: `explain query plan ${statement.sql}`, parameters: statement.parameters });
        seen.push(plan.map((row) => String(row.detail)).join('; '));
        return catalog.all(statement);
      },
    };
    await listBackups(watching, {});
    await listBackups(watching, { vmContextId: 'vm-1', statuses: ['completed'] });
    await listBackups(watching, { repositoryId: 'repo-1' });
    await listChains(watching, { vmContextId: 'vm-1' });
    await resolveBackupJob(watching, 'b').catch(() => undefined);
    expect(seen.join('\n')).not.toMatch(/SCAN (?!j USING INDEX|b\b)/);
    expect(seen.slice(0, 3).join('\n')).not.toContain('TEMP B-TREE');
  });
});
