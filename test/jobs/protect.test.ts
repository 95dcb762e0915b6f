// What a failing store does to the protection of many disks: each is looked at, each is backed up, and what was taken off is told by whoever puts it back.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import type { BackupInput } from '../../src/app-interface.ts';
import { findBackupJob } from '../../src/catalog/backup-jobs.ts';
import { listHolds, removeHold, resolveHold, updateHold } from '../../src/catalog/holds.ts';
import { listLogEvents } from '../../src/catalog/log-events.ts';
import { raiseProtectedUntil } from '../../src/catalog/protected-backups.ts';
import { openChainManager } from '../../src/control/chain-manager.ts';
import { installationId } from '../../src/control/installation.ts';
import { currentOwner } from '../../src/control/owner.ts';
import { RepositoryManager } from '../../src/control/repository-manager.ts';
import { backup } from '../../src/jobs/kinds/backup.ts';
import { deleteBackup } from '../../src/jobs/kinds/delete.ts';
import { addHold, liftHold } from '../../src/jobs/kinds/hold.ts';
import type { JobEnvironment } from '../../src/jobs/kinds/job-environment.ts';
import { protectRepository } from '../../src/jobs/kinds/protect.ts';
import { verify } from '../../src/jobs/kinds/verify.ts';
import { recoverDeadJobs } from '../../src/jobs/recover.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { ChainkeepError } from '../../src/plumbing/errors.ts';
import type { BlobStore } from '../../src/store/blob-store.ts';
import { openStore } from '../../src/store/registry.ts';
import { faultyStore } from '../../src/store/testing/faulty-store.ts';
import { openScratch, scratchFolder } from '../catalog/scratch-catalog.ts';
import { insertTrackedJob } from './tracked-job.ts';

type Failing = Pick<BlobStore, 'open' | 'protect'>;

class Site {
  /** The store, and what fails of it at this moment. */
  failing: (inner: BlobStore) => Partial<Failing> = () => ({});
  store: BlobStore | undefined;
  readonly environment: JobEnvironment;
  readonly #folder: string;

  constructor(folder: string, environment: Omit<JobEnvironment, 'repositories'>) {
    this.#folder = folder;
    const { catalog } = environment;
    const repositories = new RepositoryManager({
      ...{
        catalog,
        clock: systemClock,
        installationId: () => installationId(catalog),
        keys: () => Promise.reject(new Error('no secrets')),
      },
      openStore: async (type, config, options) => {
        const { store } = faultyStore(await openStore(type, config, options), { failAt: Number.POSITIVE_INFINITY });
        this.store = store;
        return { ...store, ...this.failing(store) };
      },
    });
    this.environment = { ...environment, repositories };
  }

  async add(settings: Readonly<Record<string, string>>): Promise<void> {
    const all = { ...settings, path: join(this.#folder, 'vault') };
    await this.environment.repositories.registerRepository({ name: 'vault', type: 'local', settings: all, takeOver: false });
  }

  row() {
    return this.environment.repositories.getRepository('vault');
  }

  async backUp(vm: string, disks = 1, change: Partial<BackupInput> = {}) {
    const sources = Array.from({ length: disks }, (_, disk) => ({ disk_id: disk, source: join(this.#folder, `${vm}-${disk}.raw`) }));
    for (const { source } of sources) writeFileSync(source, Buffer.alloc(256 * 1024, source));
    const input = { vm, disks: sources, type: 'auto', compression: 'none', format: 'raw', with_backing: false, dry_run: false } as const;
    const row = await this.row();
    return backup(this.environment, { name: 'vault', row, make: async () => row }, { ...input, ...change }, {});
  }

  async protect() {
    return protectRepository(this.environment, await this.row(), {});
  }

  async errorsOf(jobId: string): Promise<readonly string[]> {
    return (await listLogEvents(this.environment.catalog, jobId)).filter(({ level }) => level === 'error').map(({ message }) => message);
  }

  async rowOf(backupId: string) {
    const row = await findBackupJob(this.environment.catalog, backupId);
    if (!row) throw new Error(`no row of ${backupId}`);
    return row;
  }

  async takeOff(name: string): Promise<void> {
    await this.store?.release(name);
  }
}

const WEEK = { 'immutable_config.type': 'linux_chattr', 'immutable_config.min_retention_days': '7' };

async function openSite(settings: Readonly<Record<string, string>> = WEEK): Promise<Site> {
  const { catalog } = await openScratch();
  const owner = await currentOwner(catalog);
  const site = new Site(await scratchFolder(), { catalog, clock: systemClock, owner, chains: openChainManager(catalog, owner) });
  await site.add(settings);
  // So that the folder can be removed.
  onTestFinished(async () => {
    for await (const { name } of site.store?.list('') ?? []) await site.takeOff(name);
  });
  return site;
}

const fault = (name: string): Promise<never> => Promise.reject(new ChainkeepError('STORE_FAILED', `EIO: ${name}`));

it('a disk that cannot be looked at keeps no other disk from its protection', async () => {
  const site = await openSite();
  const [first] = await site.backUp('a');
  const [second] = await site.backUp('b');
  if (!first || !second) throw new Error('no backups');
  expect(await site.protect()).toMatchObject({ failures: [] });
  const image = (await site.rowOf(second.backup_id)).repository_path;
  await site.takeOff(image);
  site.failing = ({ open }) => ({ open: async (name) => (name.endsWith(`${first.backup_id}.json`) ? fault(name) : open(name)) });
  const swept = await site.protect();
  expect(swept).toMatchObject({ disks: 2, restored: [image], failures: [{ code: 'STORE_FAILED' }] });
  expect(await site.store?.protectionOf(image)).toBeDefined();
});

it('a backup that is complete and not protected keeps no other disk from its backup', async () => {
  const site = await openSite();
  let failed = '';
  site.failing = ({ protect }) => ({
    protect: async (name, protection) => {
      if (failed !== '' || !name.endsWith('.qcow2')) return protect(name, protection);
      failed = name;
      return fault(name);
    },
  });
  await expect(site.backUp('a', 3)).rejects.toMatchObject({ code: 'STORE_FAILED', message: expect.stringContaining('.qcow2') });
  const places = failed.slice(0, failed.indexOf('disk-0'));
  for (const disk of [0, 1, 2]) {
    const names: string[] = [];
    for await (const { name } of site.store?.list(`${places}disk-${disk}/`) ?? []) names.push(name);
    expect(names.filter((name) => name.endsWith('.json'))).toHaveLength(1);
  }
  expect(await site.protect()).toMatchObject({ disks: 3, failures: [] });
  expect(await site.store?.protectionOf(failed)).toBeDefined();
});

it('what somebody took off is told by the backup, and by the hold, that puts it back', async () => {
  const site = await openSite();
  const [full] = await site.backUp('a');
  if (!full) throw new Error('no backup');
  const row = await site.rowOf(full.backup_id);
  await site.protect();
  await site.takeOff(row.repository_path);
  const [child] = await site.backUp('a');
  const alarm = [expect.stringContaining(`ALARM: somebody took the protection off ${row.repository_path}`)];
  expect(await site.errorsOf(child?.job_id ?? '')).toEqual(alarm);
  await site.takeOff(row.repository_path);
  const hold = await addHold(site.environment, row, 'a case', {});
  expect(await site.errorsOf(hold.job_id)).toEqual(alarm);
  expect(await site.protect()).toMatchObject({ restored: [], failures: [] });
});

it('a hold that is written counts, though the look behind it fails', async () => {
  const site = await openSite();
  const [full] = await site.backUp('a');
  const row = await site.rowOf(full?.backup_id ?? '');
  site.failing = ({ open }) => ({ open: async (name) => (name.endsWith(`${row.id}.json`) ? fault(name) : open(name)) });
  const hold = await addHold(site.environment, row, 'a case', {});
  expect(await site.errorsOf(hold.job_id)).toEqual([expect.stringContaining('could not be looked at')]);
  expect(await listHolds(site.environment.catalog, [row.id])).toMatchObject([{ id: hold.hold_id, lifted_at: null }]);
});

it('a hold whose process died behind its file is known by the next command, and can be lifted', async () => {
  const site = await openSite();
  const [full] = await site.backUp('a');
  const row = await site.rowOf(full?.backup_id ?? '');
  const { catalog } = site.environment;
  const metadata = { repository_id: row.repository_id, vm_context_id: row.vm_context_id, disk_id: row.disk_id, backup_id: row.id };
  const hold = await addHold(site.environment, row, 'a case', {});
  await removeHold(catalog, hold.hold_id); // as if the catalog had not been told
  const jobId = await insertTrackedJob(catalog, { job_type: 'hold', operation: 'hold', metadata });
  await recoverDeadJobs(site.environment, undefined, ({ id }) => id === jobId);
  expect(await listHolds(catalog, [row.id])).toMatchObject([{ id: hold.hold_id, reason: 'a case', lifted_at: null }]);
  await liftHold(site.environment, row, await resolveHold(catalog, hold.hold_id), {});
  await updateHold(catalog, hold.hold_id, { lifted_by: null, lifted_at: null });
  const second = await insertTrackedJob(catalog, { job_type: 'hold', operation: 'lift', metadata });
  await recoverDeadJobs(site.environment, undefined, ({ id }) => id === second);
  expect(await resolveHold(catalog, hold.hold_id)).toMatchObject({ lifted_at: expect.any(String) });
});

it('a delete that comes while a verify runs is no lost lock', async () => {
  const site = await openSite({});
  const [first] = await site.backUp('a', 1, { type: 'full' });
  const [second] = await site.backUp('a', 1, { type: 'full' });
  if (!first || !second) throw new Error('no backups');
  const { environment } = site;
  await raiseProtectedUntil(environment.catalog, new Map([[first.backup_id, '2026-01-01T00:00:00.000Z']]));
  const row = await site.rowOf(first.backup_id);
  let deleted = false;
  site.failing = ({ open }) => ({
    open: async (name) => {
      if (!deleted && name.endsWith(`${second.backup_id}.qcow2`)) {
        deleted = true;
        await deleteBackup(environment, row, false, {});
      }
      return open(name);
    },
  });
  const scopes = [{ row: await site.row() }];
  expect(await verify(environment, { what: 'all', scopes }, false, {})).toMatchObject({ checked: 2, damaged: [] });
  expect(deleted).toBe(true);
});

it('a backup that is made and deleted while a verify runs is no damage', async () => {
  const site = await openSite({});
  const [first] = await site.backUp('a', 1, { type: 'full' });
  await site.backUp('b', 1, { type: 'full' });
  const { environment } = site;
  let made: string | undefined;
  let deleted = false;
  site.failing = ({ open }) => ({
    open: async (name) => {
      // What is expected is known by now, and the folder of the other disk is not read yet.
      if (made === undefined && name.endsWith('.qcow2')) {
        made = '';
        const other = name.endsWith(`${first?.backup_id}.qcow2`) ? 'b' : 'a';
        made = (await site.backUp(other, 1, { type: 'full' }))[0]?.backup_id;
      }
      const source = await open(name);
      if (!deleted && made && name.endsWith(`/${made}.json`)) {
        deleted = true;
        await deleteBackup(environment, await site.rowOf(made), false, {});
      }
      return source;
    },
  });
  const scopes = [{ row: await site.row() }];
  expect(await verify(environment, { what: 'all', scopes }, false, {})).toMatchObject({ checked: 2, damaged: [] });
  expect(deleted).toBe(true);
});

it('backups that the settings do not lock are not looked at again by each backup', async () => {
  const site = await openSite({ ...WEEK, 'immutable_config.apply_to_incrementals': 'false' });
  await site.backUp('a');
  await site.backUp('a');
  const opened: string[] = [];
  site.failing = ({ open }) => ({
    open: async (name) => {
      opened.push(name);
      return open(name);
    },
  });
  const [newest] = await site.backUp('a');
  expect(opened.filter((name) => name.endsWith(`/${newest?.backup_id}.json`))).toEqual([]);
});
