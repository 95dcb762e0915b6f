// What a failing store does to the protection of many disks: each is looked at, each is backed up, and what was taken off is told by whoever puts it back.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import type { BackupInput } from '../../src/app-interface.ts';
import { findBackupJob } from '../../src/catalog/backup-jobs.ts';
import { listHolds } from '../../src/catalog/holds.ts';
import { listLogEvents } from '../../src/catalog/log-events.ts';
import { openChainManager } from '../../src/control/chain-manager.ts';
import { installationId } from '../../src/control/installation.ts';
import { currentOwner } from '../../src/control/owner.ts';
import { RepositoryManager } from '../../src/control/repository-manager.ts';
import { backup } from '../../src/jobs/kinds/backup.ts';
import { addHold } from '../../src/jobs/kinds/hold.ts';
import type { JobEnvironment } from '../../src/jobs/kinds/job-environment.ts';
import { protectRepository } from '../../src/jobs/kinds/protect.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { ChainkeepError } from '../../src/plumbing/errors.ts';
import type { BlobStore } from '../../src/store/blob-store.ts';
import { openStore } from '../../src/store/registry.ts';
import { faultyStore } from '../../src/store/testing/faulty-store.ts';
import { openScratch, scratchFolder } from '../catalog/scratch-catalog.ts';

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

  async add(...settings: readonly (readonly [string, string])[]): Promise<void> {
    const given = {
      path: join(this.#folder, 'vault'),
      'immutable_config.type': 'linux_chattr',
      'immutable_config.min_retention_days': '7',
    };
    const all = { ...given, ...Object.fromEntries(settings) };
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

async function openSite(...settings: readonly (readonly [string, string])[]): Promise<Site> {
  const { catalog } = await openScratch();
  const owner = await currentOwner(catalog);
  const site = new Site(await scratchFolder(), { catalog, clock: systemClock, owner, chains: openChainManager(catalog, owner) });
  await site.add(...settings);
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

it('backups that the settings do not lock are not looked at again by each backup', async () => {
  const site = await openSite(['immutable_config.apply_to_incrementals', 'false']);
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
