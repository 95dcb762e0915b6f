// Chains through the ChainManager: begun, grown, completed, checked and taken from; and never written by two, whatever machine they are on.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { currentChain } from '../../src/catalog/backup-chains.ts';
import { findBackupJob, updateBackupJob } from '../../src/catalog/backup-jobs.ts';
import { type BegunBackup, openChainManager } from '../../src/control/chain-manager.ts';
import { currentOwner } from '../../src/control/owner.ts';
import { withReading } from '../../src/control/reading.ts';
import { backupRow } from '../../src/jobs/kinds/backup-row.ts';
import { silentLogger } from '../../src/plumbing/logger.ts';
import type { Sidecar } from '../../src/repository/sidecar-fields.ts';
import { AT, addRepository, addVm, openScratch, setClock } from '../catalog/scratch-catalog.ts';
import { sidecarOf } from '../repository/made-up-sidecar.ts';
import { noiseBytes, opaqueDisk, randomNumbers } from '../repository/model-disk.ts';
import { backUp, heldGuard, makeRepository, PLACE } from '../repository/scratch-repository.ts';

const WRITER = { jobId: 'job-1', logger: silentLogger };

async function openSite(clock?: ReturnType<typeof setClock>) {
  const { catalog } = await openScratch(clock);
  await addRepository(catalog);
  await addVm(catalog, 'vm-a');
  const owner = await currentOwner(catalog);
  return { catalog, owner, chains: openChainManager(catalog, owner) };
}

function begun(id: string, other: Partial<BegunBackup> = {}): BegunBackup {
  const place = { vm_context_id: 'vm-a', vm_name: 'a VM', disk_id: 0, repository_id: 'repo-1' };
  return { id, ...place, repository_path: `vms/vm-a/disk-0/${id}.qcow2`, created_at: AT, ...other };
}

const DISK = { vmContextId: 'vm-a', diskId: 0, repositoryId: 'repo-1' };
const rowOf = (sidecar: Sidecar) => backupRow(sidecar, { id: 'repo-1' });
const later = { completed_at: '2026-11-22T00:00:02.000Z' };

describe('a chain', () => {
  it('is there once its full has completed, and its latest moves at completion only', async () => {
    const { catalog, chains } = await openSite();
    const full = sidecarOf('b1');
    await chains.createChain(begun('b1'));
    expect(await currentChain(catalog, DISK)).toBeUndefined();
    await expect(chains.getChain('b1')).rejects.toMatchObject({ code: 'BACKUP_NOT_FOUND' });
    await chains.completeBackup(rowOf(full));
    expect(await chains.getChain('b1')).toMatchObject({ full_backup_id: 'b1', latest_backup_id: 'b1', total_backups: 1 });
    await chains.addToChain(begun('b2'), 'incremental', 'b1');
    expect(await findBackupJob(catalog, 'b2')).toMatchObject({ status: 'running', chain_id: 'b1', parent_backup_id: 'b1' });
    expect(await chains.getChain('b1')).toMatchObject({ latest_backup_id: 'b1', total_backups: 1 });
    await chains.completeBackup(rowOf(sidecarOf('b2', full, later)));
    expect(await chains.getChain('b1')).toMatchObject({ latest_backup_id: 'b2', total_backups: 2, updated_at: later.completed_at });
  });

  it('of a disk is one of several, and the others stay as they are', async () => {
    const { chains } = await openSite();
    for (const id of ['b1', 'b2']) {
      await chains.createChain(begun(id));
      await chains.completeBackup(rowOf(sidecarOf(id, null, id === 'b2' ? later : {})));
    }
    expect((await chains.listChains(DISK)).map(({ id, latest_backup_id }) => [id, latest_backup_id])).toEqual([
      ['b2', 'b2'],
      ['b1', 'b1'],
    ]);
  });

  it('grows only on a completed backup of its disk', async () => {
    const { catalog, chains } = await openSite();
    await chains.createChain(begun('b1'));
    await expect(chains.addToChain(begun('b2'), 'incremental', 'b1')).rejects.toMatchObject({ code: 'PARENT_NOT_FOUND' });
    await chains.completeBackup(rowOf(sidecarOf('b1')));
    await expect(chains.addToChain(begun('b2'), 'incremental', 'b0')).rejects.toThrow('not in the catalog');
    await expect(chains.addToChain(begun('b2', { disk_id: 1 }), 'incremental', 'b1')).rejects.toThrow('of another disk');
    await addRepository(catalog, 'repo-2');
    await expect(chains.addToChain(begun('b2', { repository_id: 'repo-2' }), 'differential', 'b1')).rejects.toThrow('of another disk');
    expect(await findBackupJob(catalog, 'b2')).toBeUndefined();
  });
});

describe('the writer of a disk', () => {
  it('on another machine keeps everybody out until its lease runs out, however dead it may look', async () => {
    const clock = setClock();
    const { catalog, owner, chains } = await openSite(clock);
    // A process number that nobody has here, another boot: on this machine that would be proof.
    const far = openChainManager(catalog, { ...owner, machine_id: 'other', hostname: 'other', boot_id: 'before', pid: 2 ** 22 });
    const other = { ...WRITER, jobId: 'job-2' };
    await far.withWriter('repo-1', DISK, WRITER, async (guard) => {
      const refused = chains.withWriter('repo-1', DISK, other, async () => 'wrote');
      await expect(refused).rejects.toMatchObject({ code: 'BACKUP_IN_PROGRESS', context: { machine: 'other' } });
      clock.advance(59_999);
      await expect(chains.withWriter('repo-1', DISK, other, async () => 'wrote')).rejects.toMatchObject({ code: 'BACKUP_IN_PROGRESS' });
      await guard.assertHeld();
      clock.advance(1);
      await chains.withWriter('repo-1', DISK, other, async () => {
        // The one that comes back from the dead may commit nothing, and cannot take the lease back.
        await expect(guard.assertHeld()).rejects.toMatchObject({ code: 'LEASE_LOST' });
        await expect(far.withWriter('repo-1', DISK, WRITER, async () => 'wrote')).rejects.toMatchObject({ context: { job_id: 'job-2' } });
      });
    });
  });

  it('on this machine that is proved dead keeps nobody out', async () => {
    const { catalog, owner, chains } = await openSite(setClock());
    const dead = openChainManager(catalog, { ...owner, pid: 2 ** 22 + 1 });
    await dead.withWriter('repo-1', DISK, WRITER, async (guard) => {
      expect(await chains.withWriter('repo-1', DISK, { ...WRITER, jobId: 'job-2' }, async () => 'wrote')).toBe('wrote');
      await expect(guard.assertHeld()).rejects.toMatchObject({ code: 'LEASE_LOST' });
    });
  });

  it('waits for those who read what it takes away', async () => {
    const { catalog, owner, chains } = await openSite();
    await chains.createChain(begun('b1'));
    const wait = { limit: 0, signal: new AbortController().signal, logger: silentLogger };
    const reading = { repositoryId: 'repo-1', backupIds: ['b1'], jobId: 'reader', owner, logger: silentLogger };
    await withReading(catalog, reading, async () => {
      await expect(chains.waitForReaders('b1', wait)).rejects.toMatchObject({ code: 'BACKUP_IN_USE', context: { job_id: 'reader' } });
    });
    await chains.waitForReaders('b1', wait);
  });
});

describe('against a repository', () => {
  async function openFilled() {
    const site = await openSite();
    const root = mkdtempSync(join(tmpdir(), 'chainkeep-chains-'));
    onTestFinished(() => rmSync(root, { recursive: true, force: true }));
    const made = await makeRepository(root);
    await addRepository(site.catalog, made.id);
    const sidecars: Sidecar[] = [];
    for (let seed = 1; seed <= 3; seed++) {
      const { sidecar } = await backUp(made.repository, opaqueDisk(noiseBytes(200_000, randomNumbers(seed))));
      await site.chains.completeBackup(backupRow(sidecar, { id: made.id }));
      sidecars.push(sidecar);
    }
    const [first, second, third] = sidecars;
    if (!first || !second || !third) throw new Error('three backups were made');
    return { ...site, ...made, first, second, third };
  }

  it('a chain is valid, and what is wrong with it is named by the backup', async () => {
    const { chains, repository, first, second, third, store, catalog } = await openFilled();
    const id = first.backup_id;
    const valid = await chains.validateChain(repository, PLACE, id);
    expect(valid.faults).toEqual([]);
    expect(valid.backups.map(({ backup_id }) => backup_id)).toEqual([id, second.backup_id, third.backup_id]);
    await updateBackupJob(catalog, third.backup_id, { status: 'failed' });
    const uncompleted = (await chains.validateChain(repository, PLACE, id)).faults;
    expect(uncompleted).toMatchObject([
      { backupId: third.backup_id, error: { message: expect.stringContaining('is failed in the catalog') } },
    ]);
    await store.delete(`vms/vm-a/disk-0/${second.backup_id}.json`);
    const { faults } = await chains.validateChain(repository, PLACE, id);
    expect(faults.map(({ backupId, error }) => [backupId, error.code])).toEqual([
      [third.backup_id, 'PARENT_NOT_FOUND'],
      [third.backup_id, 'CHAIN_CORRUPT'],
      [second.backup_id, 'CHAIN_CORRUPT'],
    ]);
    await expect(chains.validateChain(repository, PLACE, 'nothing')).rejects.toMatchObject({ code: 'BACKUP_NOT_FOUND' });
  });

  it('a delete is planned for the newest only, and not while a younger one is lost', async () => {
    const { chains, repository, first, third, store, catalog } = await openFilled();
    const row = async ({ backup_id }: Sidecar) => {
      const found = await findBackupJob(catalog, backup_id);
      if (!found) throw new Error('it was entered');
      return found;
    };
    await expect(chains.planDelete(repository, await row(first))).rejects.toMatchObject({ code: 'BACKUP_HAS_DEPENDENTS' });
    const plan = await chains.planDelete(repository, await row(third));
    expect(plan.files).toHaveLength(3);
    await store.delete(`vms/vm-a/disk-0/${third.backup_id}.json`);
    await expect(chains.planDelete(repository, await row(first))).rejects.toThrow(third.backup_id);
    await repository.runDelete(plan, heldGuard());
    expect(await chains.planDelete(repository, await row(third))).toMatchObject({ files: [], freedBytes: 0 });
  });
});
