// What a look at protection finds after something went half right: a file that the store did not lock or hold, holds of others, marks that were taken off.

import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { ChainkeepError } from '../../src/plumbing/errors.ts';
import { DAY_MS } from '../../src/repository/lock-rules.ts';
import { claimRepository, type Repository } from '../../src/repository/repository.ts';
import type { BlobProtection, BlobStore } from '../../src/store/blob-store.ts';
import { faultyStore } from '../../src/store/testing/faulty-store.ts';
import { datedStore } from './dated-store.ts';
import { disk, LockSite, WEEK } from './lock-site.ts';
import { bytesSource } from './model-disk.ts';
import { scratchFolder } from './scratch-folder.ts';
import { backUp, heldGuard, PLACE } from './scratch-repository.ts';

const scratch = scratchFolder();
const site = new LockSite(scratch);
const FOLDER = 'vms/vm-a/disk-0/';

beforeEach(() => site.begin());
afterEach(() => site.release());

/** The first `protect` that it matches fails. */
function failingOnce(inner: BlobStore, matches: (name: string, protection: BlobProtection) => boolean): BlobStore {
  let failed = false;
  return {
    ...inner,
    protect: async (name, protection) => {
      if (failed || !matches(name, protection)) return inner.protect(name, protection);
      failed = true;
      throw new ChainkeepError('STORE_FAILED', '503 slow down');
    },
  };
}

async function expectDates(store: BlobStore, id: string, until: number): Promise<void> {
  for await (const { name } of store.list(`${FOLDER}${id}.`)) {
    expect((await store.protectionOf(name))?.until ?? 0, name).toBeGreaterThanOrEqual(until);
  }
}

async function expectHeld(store: BlobStore, id: string, held: boolean): Promise<void> {
  for await (const { name } of store.list(`${FOLDER}${id}.`)) expect((await store.protectionOf(name))?.hold ?? false, name).toBe(held);
}

describe('in a store with dates', () => {
  const dated = (): BlobStore => datedStore(site.test.store, () => site.now);

  it('a file that could not be locked is locked by the next look, though all others are', async () => {
    const store = dated();
    const failing = failingOnce(store, (name) => name.endsWith('.qcow2'));
    const { sidecar, unprotected } = await site.save(1, {}, await site.test.through(failing));
    expect(unprotected).toMatchObject({ code: 'STORE_FAILED' });
    await site.sweep(await site.test.through(failing));
    await expectDates(store, sidecar.backup_id, site.now + 6.9 * DAY_MS);
  });

  it('no backup is committed on a parent whose date could not be extended, not at the second attempt either', async () => {
    const store = dated();
    const { sidecar } = await site.save(1, {}, await site.test.through(store));
    site.now += 3 * DAY_MS;
    const through = await site.test.through(failingOnce(store, (name) => name.endsWith('.qcow2')));
    await expect(site.save(2, {}, through)).rejects.toMatchObject({ code: 'STORE_FAILED' });
    const child = await site.save(2, {}, through);
    expect(child.sidecar.parent_backup_id).toBe(sidecar.backup_id);
    await expectDates(store, sidecar.backup_id, site.now + 6.9 * DAY_MS);
  });

  it('a hold that came beside a date gets it, the second one too', async () => {
    const store = dated();
    const repository = await site.test.through(store);
    const { sidecar } = await site.save(1, {}, repository);
    for (const reason of ['one', 'two']) {
      await repository.locks.addHold(PLACE, sidecar.backup_id, { reason, by: 'me' }, heldGuard());
      await site.sweep(repository);
      await expectDates(store, sidecar.backup_id, site.now + 6.9 * DAY_MS);
      await expectHeld(store, sidecar.backup_id, true);
    }
  });

  it('a file that could not be held is held by the next look, though the image is', async () => {
    const store = dated();
    const failing = await site.test.through(failingOnce(store, (name, { hold }) => name.endsWith('.digests') && hold === true));
    const { sidecar } = await site.save(1, {}, failing);
    await failing.locks.addHold(PLACE, sidecar.backup_id, { reason: 'a case', by: 'me' }, heldGuard());
    expect((await failing.locks.run(await failing.locks.look(PLACE), heldGuard())).failures).toHaveLength(1);
    await site.sweep(failing);
    await expectHeld(store, sidecar.backup_id, true);
  });

  it('a hold that somebody else has set there is not lifted', async () => {
    const store = dated();
    const repository = await site.test.through(store);
    const [full, child] = [await site.save(1, {}, repository), await site.save(2, {}, repository)];
    const image = `${FOLDER}${full.sidecar.backup_id}.qcow2`;
    await store.protect(image, { hold: true });
    expect(await site.sweep(repository)).toBe(0);
    expect(await store.protectionOf(image)).toMatchObject({ hold: true });
    const hold = await repository.locks.addHold(PLACE, child.sidecar.backup_id, { reason: 'a case', by: 'me' }, heldGuard());
    await site.sweep(repository);
    await repository.locks.liftHold(PLACE, child.sidecar.backup_id, { holdId: hold.holdId, by: 'me' }, heldGuard());
    await site.sweep(repository);
    await expectHeld(store, child.sidecar.backup_id, false);
    await store.protect(image, { hold: true });
    site.now += 2 * DAY_MS;
    expect((await repository.locks.look(PLACE, { sweptAt: site.now })).steps).toEqual([]);
  });
});

describe('a name that may have been one of a lock or a hold', () => {
  for (const rest of ['hold.01.json', 'lock.20270122T144539287', 'lock.20270122t144539287 (1)', 'hold.json']) {
    it(`.${rest} forbids the delete, and nothing is removed`, async () => {
      await site.begin(null);
      const { repository, folder } = site.test;
      const { backup_id: id } = (await site.save(1)).sidecar;
      const plan = await repository.planDelete(PLACE, id);
      writeFileSync(join(folder, `${id}.${rest}`), '');
      await expect(repository.planDelete(PLACE, id)).rejects.toMatchObject({ code: 'PROTECTION_INVALID', context: { backup_id: id } });
      await expect(repository.runDelete(plan, heldGuard())).rejects.toMatchObject({ code: 'PROTECTION_INVALID' });
      expect((await repository.readDisk(PLACE)).sidecars).toHaveLength(1);
      renameSync(join(folder, `${id}.${rest}`), scratch('taken'));
      await repository.runDelete(await repository.planDelete(PLACE, id), heldGuard());
    });
  }
});

describe('a mark that somebody took off', () => {
  const alarms = (): readonly string[] => site.test.logged.filter(({ level }) => level === 'error').map(({ message }) => message);
  /** All was found in order at this moment, by the clock that files have their times from. */
  async function swept(repository: Repository): Promise<number> {
    await site.sweep(repository);
    expect(await site.sweep(repository)).toBe(0);
    return site.now;
  }
  const begin = async (settings = WEEK): Promise<void> => {
    await site.begin(settings);
    site.now = Date.now();
  };

  it('is told by the backup that puts it back, also where that fails', async () => {
    await begin();
    const { sidecar } = await site.save(1);
    const sweptAt = await swept(site.test.repository);
    const image = `${FOLDER}${sidecar.backup_id}.qcow2`;
    await site.test.store.release(image);
    const { store } = faultyStore(site.test.store, { failAt: Number.POSITIVE_INFINITY });
    const noCommit: BlobStore = {
      ...store,
      put: async (name, options) => {
        if (name.endsWith('.json')) throw new ChainkeepError('STORE_FAILED', 'no sidecar');
        return store.put(name, options);
      },
    };
    const failing = await site.test.through(noCommit);
    const reader = openRawReader(bytesSource(disk(2)));
    await expect(backUp(failing, reader, {}, { sweptAt })).rejects.toMatchObject({ code: 'STORE_FAILED' });
    expect(await site.test.store.protectionOf(image)).toBeDefined();
    expect(alarms()).toEqual([expect.stringContaining(`ALARM: somebody took the protection off ${image}`)]);
  });

  it('is not what was never due: of a parent that its first child locks, of a backup that is held from now on', async () => {
    await begin({ ...WEEK, apply_to_full_backups: false });
    const { repository } = site.test;
    const full = await site.save(1);
    const sweptAt = await swept(repository);
    await backUp(repository, openRawReader(bytesSource(disk(2))), {}, { sweptAt });
    const other = await site.save(3, { type: 'full' });
    await repository.locks.addHold(PLACE, other.sidecar.backup_id, { reason: 'a case', by: 'me' }, heldGuard());
    await repository.locks.run(await repository.locks.look(PLACE, { sweptAt }), heldGuard());
    for (const { sidecar } of [full, other]) {
      expect(await site.test.store.protectionOf(`${FOLDER}${sidecar.backup_id}.qcow2`)).toBeDefined();
    }
    expect(alarms()).toEqual([]);
  });
});

it('the settings in the marker are not replaced by who is not its owner any more', async () => {
  const { repository, store, clock } = site.test;
  await claimRepository({ store, clock, installationId: 'another', takeOver: true });
  await expect(repository.locks.replaceSettings({ ...WEEK, min_retention_days: 30 })).rejects.toMatchObject({ code: 'REPOSITORY_FOREIGN' });
});
