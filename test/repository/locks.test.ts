// Locks and holds of a repository over stores with marks and with dates: the order of a commit, faults and forgeries at every place, the end of a date.

import { chmodSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { isoTime } from '../../src/plumbing/clock.ts';
import { ChainkeepError } from '../../src/plumbing/errors.ts';
import type { BackupRequest, CreatedBackup } from '../../src/repository/create-backup.ts';
import { lockFile } from '../../src/repository/layout.ts';
import { DAY_MS } from '../../src/repository/lock-rules.ts';
import type { Repository } from '../../src/repository/repository.ts';
import type { BlobStore } from '../../src/store/blob-store.ts';
import { faultyStore } from '../../src/store/testing/faulty-store.ts';
import { datedStore } from './dated-store.ts';
import { disk, LockSite, START, WEEK } from './lock-site.ts';
import { bytesSource } from './model-disk.ts';
import { scratchFolder } from './scratch-folder.ts';
import { heldGuard, PLACE, requestFor, restoredBytes } from './scratch-repository.ts';

const scratch = scratchFolder();
const site = new LockSite(scratch);
const save = (fill: number, change: Partial<BackupRequest> = {}, repository?: Repository): Promise<CreatedBackup> =>
  site.save(fill, change, repository);
const sweep = (repository?: Repository): Promise<number> => site.sweep(repository);

beforeEach(() => site.begin());
afterEach(() => site.release());

async function dateOf(id: string): Promise<number> {
  return Date.parse((await site.test.repository.locks.read(PLACE)).get(id)?.lockedUntil ?? '');
}

async function remove(id: string, repository = site.test.repository): Promise<void> {
  const plan = await repository.planDelete(PLACE, id);
  await repository.runDelete(plan, heldGuard());
}

describe('the commit of a backup in an immutable repository', () => {
  it('locks what it needs, then commits, then locks itself', async () => {
    const full = await save(1);
    const { store, operations } = faultyStore(site.test.store, { failAt: Number.POSITIVE_INFINITY });
    site.now += DAY_MS;
    const child = await save(2, {}, await site.test.through(store));
    expect([...child.locked.keys()]).toEqual([full.sidecar.backup_id, child.sidecar.backup_id]);
    const at = (start: string): number => operations.findIndex((operation) => operation.startsWith(start));
    const path = `vms/vm-a/disk-0/`;
    const order = [
      at(`finish ${path}${child.sidecar.backup_id}.1.digests`),
      at(`finish ${path}${full.sidecar.backup_id}.lock.`),
      at(`protect ${path}${full.sidecar.backup_id}.lock.`),
      at(`finish ${path}${child.sidecar.backup_id}.json`),
      at(`finish ${path}${child.sidecar.backup_id}.lock.`),
      at(`protect ${path}${child.sidecar.backup_id}.1.digests`),
      at(`protect ${path}${child.sidecar.backup_id}.lock.`),
    ];
    expect(order).toEqual([...order].sort((a, b) => a - b));
    expect(order[0]).toBeGreaterThan(0);
    await site.expectProtected(site.test.repository, site.test.store);
  });

  it('is kept and told when only its own lock fails, and the next look locks it', async () => {
    await save(1);
    const isLock = (target: string): boolean => /\.lock\./.test(target);
    let locks = 0;
    const { store } = faultyStore(site.test.store, { failAt: Number.POSITIVE_INFINITY });
    const failing: BlobStore = {
      ...store,
      put: async (name, options) => {
        locks += isLock(name) ? 1 : 0;
        if (isLock(name) && locks > 1) throw new ChainkeepError('STORE_FAILED', 'no lock');
        return store.put(name, options);
      },
    };
    site.now += DAY_MS;
    const made = await save(2, {}, await site.test.through(failing));
    expect(made.unprotected).toMatchObject({ code: 'STORE_FAILED' });
    await expect(remove(made.sidecar.backup_id)).rejects.toMatchObject({ code: 'IMMUTABLE_RETENTION_ACTIVE' });
    await site.expectProtected(site.test.repository, site.test.store);
  });

  it('starts another chain when the present one is old or long, and only for the type auto', async () => {
    const first = await save(1);
    site.now += 6.9 * DAY_MS;
    expect((await save(2)).sidecar.chain_id).toBe(first.sidecar.backup_id);
    site.now += 0.2 * DAY_MS;
    expect((await save(3, { type: 'incremental' })).sidecar.chain_id).toBe(first.sidecar.backup_id);
    const plan = await site.test.repository.planBackup(requestFor(openRawReader(bytesSource(disk(4)))));
    expect(plan).toMatchObject({
      type: 'full',
      reason: 'the chain is 7 days old, and in an immutable repository another chain starts after 7',
    });
    const second = await save(4);
    for (let count = 1; count < 30; count += 1) expect((await save(5)).sidecar.chain_id).toBe(second.sidecar.backup_id);
    expect((await save(6)).sidecar.backup_type).toBe('full');
  });
});

describe('a date', () => {
  it('ends a delete until it is over, and not any longer; the files of the lock go with the backup', async () => {
    const { sidecar } = await save(1);
    const until = await dateOf(sidecar.backup_id);
    const context = { backup_id: sidecar.backup_id, retention_expires_at: isoTime(until) };
    site.now = until - 5000;
    await expect(remove(sidecar.backup_id)).rejects.toMatchObject({ code: 'IMMUTABLE_RETENTION_ACTIVE', context });
    site.now = until;
    await remove(sidecar.backup_id);
    expect(readdirSync(site.test.root)).toEqual(['chainkeep-repository.json']);
  });

  it('that was set by the store counts too, and no half of a backup is removed', async () => {
    const dated = datedStore(site.test.store, () => site.now);
    const repository = await site.test.through(dated);
    const { sidecar } = await save(1, {}, repository);
    site.now = (await dateOf(sidecar.backup_id)) + 1;
    const image = `vms/vm-a/disk-0/${sidecar.backup_id}.qcow2`;
    await dated.protect(image, { until: site.now + DAY_MS });
    await expect(remove(sidecar.backup_id, repository)).rejects.toMatchObject({
      code: 'IMMUTABLE_RETENTION_ACTIVE',
      context: { name: image },
    });
    expect((await repository.readDisk(PLACE)).sidecars.length).toBe(1);
    site.now += DAY_MS;
    await remove(sidecar.backup_id, repository);
    expect(readdirSync(site.test.root)).toEqual(['chainkeep-repository.json']);
  });

  it('is not shortened by an earlier one, by a lock that is taken away, or by settings that are', async () => {
    const { sidecar } = await save(1);
    const id = sidecar.backup_id;
    const until = await dateOf(id);
    const lock = join(site.test.folder, lockFile(id, until));
    writeFileSync(join(site.test.folder, lockFile(id, site.now - DAY_MS)), 'forged');
    await expect(remove(id)).rejects.toMatchObject({ context: { retention_expires_at: isoTime(until) } });
    await site.test.store.release(`vms/vm-a/disk-0/${lockFile(id, until)}`);
    rmSync(lock);
    await expect(remove(id)).rejects.toMatchObject({ code: 'IMMUTABLE_RETENTION_ACTIVE' }); // the settings say so
    const weaker = await site.open(site.test.root, null);
    const known = { lockedUntil: isoTime(until), holds: [] };
    await expect(weaker.repository.planDelete(PLACE, id, known)).rejects.toMatchObject({ code: 'IMMUTABLE_RETENTION_ACTIVE' }); // the catalog does
    await site.expectProtected(site.test.repository, site.test.store);
  });

  it('does not end while no clock can be believed', async () => {
    const { sidecar } = await save(1);
    site.now += 400 * DAY_MS;
    site.jumped = true;
    await expect(remove(sidecar.backup_id)).rejects.toMatchObject({ code: 'CLOCK_JUMPED' });
    expect(await sweep()).toBe(0);
    site.jumped = false;
    await remove(sidecar.backup_id);
  });

  it('that comes between the plan of a delete and its run is seen', async () => {
    await site.begin(null);
    const { sidecar } = await save(1);
    const plan = await site.test.repository.planDelete(PLACE, sidecar.backup_id);
    const immutable = await site.open(site.test.root, WEEK);
    await sweep(immutable.repository);
    await expect(site.test.repository.runDelete(plan, heldGuard())).rejects.toMatchObject({ code: 'IMMUTABLE_RETENTION_ACTIVE' });
    expect(await restoredBytes(site.test.repository, sidecar.backup_id, scratch('out'))).toEqual(disk(1));
  });

  it('that is over is taken off the files, and one that a later one has taken over goes', async () => {
    const full = await save(1);
    let newest = '';
    for (let day = 1; day < 4; day += 1) {
      site.now += DAY_MS;
      newest = (await save(1 + day)).sidecar.backup_id;
    }
    const locks = (): readonly string[] =>
      readdirSync(site.test.folder).filter((name) => name.startsWith(`${full.sidecar.backup_id}.lock.`));
    expect(locks().length).toBe(1);
    const dates = [await dateOf(full.sidecar.backup_id), await dateOf(newest)];
    expect(dates[0]).toBeGreaterThanOrEqual(dates[1] ?? Infinity);
    site.now += 30 * DAY_MS;
    await sweep();
    for await (const { name } of site.test.store.list('vms/')) expect(await site.test.store.protectionOf(name)).toBeUndefined();
    expect((await dateOf(full.sidecar.backup_id)) > 0).toBe(true);
  });
});

describe('what is left of a backup', () => {
  it('whose sidecar somebody took away stays while its lock is active, and goes with it', async () => {
    const { sidecar } = await save(1);
    const id = sidecar.backup_id;
    for await (const { name } of site.test.store.list('vms/')) await site.test.store.release(name);
    rmSync(join(site.test.folder, `${id}.json`));
    site.now += 2 * DAY_MS; // old enough to be rubbish
    expect(await site.test.repository.removeRubbish(PLACE, heldGuard(), async () => 'dead')).toEqual([]);
    site.jumped = true;
    site.now += 30 * DAY_MS;
    expect(await site.test.repository.removeRubbish(PLACE, heldGuard(), async () => 'dead')).toEqual([]);
    site.jumped = false;
    expect((await site.test.repository.removeRubbish(PLACE, heldGuard(), async () => 'dead')).length).toBe(3);
  });

  it('locked by the store is no fault: it is removed when it can be', async () => {
    const dated = datedStore(site.test.store, () => site.now);
    const repository = await site.test.through(dated);
    const { sidecar } = await save(1, {}, repository);
    const image = `vms/vm-a/disk-0/${sidecar.backup_id}.qcow2`;
    renameSync(join(site.test.folder, `${sidecar.backup_id}.json`), scratch('taken'));
    for (const name of readdirSync(site.test.folder)) if (/\.lock\./.test(name)) rmSync(join(site.test.folder, name));
    expect(await repository.removeRubbish(PLACE, heldGuard(), async () => 'dead')).toEqual([]);
    expect(site.test.logged.filter(({ level }) => level !== 'debug' && level !== 'info')).toEqual([]);
    site.now += 30 * DAY_MS;
    expect(await repository.removeRubbish(PLACE, heldGuard(), async () => 'dead')).toContain(image);
  });
});

describe('a hold', () => {
  for (const kind of ['marks', 'dates'] as const) {
    it(`in a store with ${kind} protects a backup and what it needs until the last one is lifted`, async () => {
      await site.begin(null);
      const store = kind === 'marks' ? site.test.store : datedStore(site.test.store, () => site.now);
      const repository = await site.test.through(store);
      const [one, two] = [await save(1, {}, repository), await save(2, {}, repository)];
      const id = two.sidecar.backup_id;
      const first = await repository.locks.addHold(PLACE, id, { reason: 'a case', by: 'me' }, heldGuard());
      const second = await repository.locks.addHold(PLACE, id, { reason: 'another', by: 'you' }, heldGuard());
      expect([first.number, second.number]).toEqual([1, 2]);
      await sweep(repository);
      for await (const { name } of store.list('vms/')) expect(await store.protectionOf(name), name).toBeDefined();
      await repository.locks.liftHold(PLACE, id, { holdId: first.holdId, by: 'me' }, heldGuard());
      await sweep(repository);
      const refusal = { code: 'HOLD_ACTIVE', context: { hold_id: second.holdId, reason: 'another', held_by: 'you' } };
      await expect(remove(id, repository)).rejects.toMatchObject(refusal);
      await repository.locks.liftHold(PLACE, id, { holdId: second.holdId, by: 'you' }, heldGuard());
      await sweep(repository);
      expect(await sweep(repository)).toBe(0);
      for await (const { name } of store.list('vms/')) expect((await store.protectionOf(name))?.hold ?? false, name).toBe(false);
      await remove(id, repository);
      await remove(one.sidecar.backup_id, repository);
      expect(readdirSync(site.test.root)).toEqual(['chainkeep-repository.json']);
    });
  }

  it('whose file is damaged, or was lost by the repository and not by the catalog, holds', async () => {
    await site.begin(null);
    const { sidecar } = await save(1);
    const id = sidecar.backup_id;
    const hold = await site.test.repository.locks.addHold(PLACE, id, { reason: 'a case', by: 'me' }, heldGuard());
    const path = join(site.test.folder, `${id}.hold.1.json`);
    writeFileSync(path, '{}');
    await expect(remove(id)).rejects.toMatchObject({ code: 'HOLD_ACTIVE' });
    await expect(site.test.repository.locks.liftHold(PLACE, id, { holdId: hold.holdId, by: 'me' }, heldGuard())).rejects.toMatchObject({
      code: 'HOLD_NOT_FOUND',
    });
    rmSync(path);
    const known = { lockedUntil: null, holds: [{ holdId: hold.holdId, reason: 'a case', createdBy: 'me', createdAt: isoTime(site.now) }] };
    await expect(site.test.repository.planDelete(PLACE, id, known)).rejects.toMatchObject({ code: 'HOLD_ACTIVE' });
    await remove(id);
  });
});

describe('a protection', () => {
  it('that somebody took off is named and put back, and one that was not due yet is not', async () => {
    const { sidecar } = await save(1);
    const name = `vms/vm-a/disk-0/${sidecar.backup_id}.qcow2`;
    const sweptAt = site.now + DAY_MS;
    await site.test.store.release(name);
    chmodSync(join(site.test.root, name), 0o600);
    const plan = await site.test.repository.locks.look(PLACE, { sweptAt });
    expect(plan.steps).toMatchObject([{ action: 'protect', name, again: Date.now() <= sweptAt }]);
    const fresh = await site.test.repository.locks.look(PLACE, { sweptAt: START - DAY_MS });
    expect(fresh.steps).toMatchObject([{ action: 'protect', name, again: false }]);
    await site.test.repository.locks.run(plan, heldGuard());
    expect(await site.test.store.protectionOf(name)).toBeDefined();
  });
});
