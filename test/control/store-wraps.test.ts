// What the settings of a repository put around its store, and that limits follow the catalog while the store is open.

import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { getRepository, updateRepository } from '../../src/catalog/backup-repositories.ts';
import { acquireLease } from '../../src/catalog/leases.ts';
import { listRepositoryUsers } from '../../src/catalog/repository-users.ts';
import { currentOwner } from '../../src/control/owner.ts';
import { openStoreWraps } from '../../src/control/store-wraps.ts';
import { type Logger, silentLogger } from '../../src/plumbing/logger.ts';
import { commonConfigSchema } from '../../src/store/common-config.ts';
import { COMMON_SETTINGS } from '../../src/store/common-settings.ts';
import { openLocalStore } from '../../src/store/local/local-store.ts';
import { loadStoreKind } from '../../src/store/registry.ts';
import { patternBytes } from '../../src/store/testing/store-probe.ts';
import { writeBlob } from '../../src/store/trial.ts';
import { addRepository, addVm, openScratch, scratchFolder } from '../catalog/scratch-catalog.ts';

const LOOK_EVERY = 20;

async function openSite(limits: Readonly<Record<string, unknown>> = {}, logger: Logger = silentLogger) {
  const { catalog } = await openScratch();
  await addRepository(catalog);
  const set = (config: Readonly<Record<string, unknown>>) => updateRepository(catalog, 'repo-1', { config: { path: '/x', ...config } });
  await set(limits);
  const wraps = openStoreWraps(catalog, LOOK_EVERY);
  const open = async () =>
    wraps.wrap(await getRepository(catalog, 'repo-1'), await openLocalStore(await scratchFolder(), { create: false }), { logger });
  return { catalog, wraps, set, open };
}

it('limits that are set, changed and lifted count for a store that is open', async () => {
  const { set, open } = await openSite();
  const { store } = await open();
  const hasDescriptor = async (): Promise<boolean> => {
    const sink = await store.put('a');
    await sink.abort();
    return sink.direct !== undefined;
  };
  const becomes = async (wanted: boolean): Promise<void> => {
    for (let tries = 0; tries < 500 && (await hasDescriptor()) !== wanted; tries += 1) await sleep(10);
    expect(await hasDescriptor()).toBe(wanted);
  };
  await becomes(true);
  await set({ limits: { upload_bytes_per_second: 1000 } });
  await becomes(false);
  await set({});
  await becomes(true);
  await store.close();
  await set({ limits: { upload_bytes_per_second: 1000 } });
  await sleep(5 * LOOK_EVERY);
  expect(await hasDescriptor(), 'nobody looks any more when it is closed').toBe(true);
});

it('another process at work on the same repository takes its part', async () => {
  const { catalog, open } = await openSite({ limits: { upload_bytes_per_second: 1_000_000 } });
  await addVm(catalog);
  const self = await currentOwner(catalog);
  // Nothing can be known of a process on another machine but that its lease is there.
  const owner = { ...self, machine_id: 'another', hostname: 'another' };
  const lease = { repositoryId: 'repo-1', vmContextId: 'vm-1', diskId: 0, jobId: 'job-1', expiry: 60_000 };
  await acquireLease(catalog, { ...lease, owner }, () => false);
  const users = await listRepositoryUsers(catalog, 'repo-1');
  expect([users.writing.map(({ hostname }) => hostname), users.reading]).toEqual([['another'], []]);
  const { store } = await open();
  await sleep(20 * LOOK_EVERY);
  const sink = await store.put('a');
  await sink.append([patternBytes(500_000)]);
  const began = performance.now();
  await sink.append([patternBytes(500_000)]);
  // Half a million bytes are paid for at half of the rate, less what a quarter of a second has saved up; alone it would be half as long.
  expect(performance.now() - began).toBeGreaterThan(650);
  await sink.abort();
  await store.close();
});

it('counts what is written while it is written, and keeps the counts of all stores of a repository', async () => {
  const { wraps, open } = await openSite();
  const first = await open();
  await writeBlob(first.store, 'a', patternBytes(1000));
  const sink = await first.store.put('b');
  await sink.append([patternBytes(500)]);
  if (!sink.direct) throw new Error('there is no descriptor');
  Atomics.add(sink.direct.next, 0, 250n);
  expect(first.written()).toBe(1750);
  await sink.abort();
  expect(first.written()).toBe(1000);
  await first.store.close();
  const second = await open();
  await writeBlob(second.store, 'a', patternBytes(10));
  expect([first.written(), second.written()]).toEqual([1000, 10]);
  await second.store.close();
  expect(wraps.metrics().get('repo-1')).toMatchObject({ put: { calls: 3 }, append: { bytes: 1510 }, finish: { calls: 2 } });
});

it('counts through a store without descriptors, too', async () => {
  const { open } = await openSite({ limits: { concurrent_operations: 4 } });
  const { store, written } = await open();
  const sink = await store.put('b', { headLength: 10 });
  await sink.append([patternBytes(500)]);
  await sink.append([patternBytes(70)]);
  expect(written()).toBeGreaterThanOrEqual(570);
  await sink.finish(patternBytes(10));
  expect(written()).toBe(580);
  await store.close();
});

it('a log of its calls is kept where the settings say so', async () => {
  const lines: string[] = [];
  const { open } = await openSite({ log_operations: true, retry_attempts: 3 }, { log: (_level, message) => lines.push(message) });
  const { store } = await open();
  await writeBlob(store, 'a', 'x');
  await store.close();
  expect(lines).toEqual(['store: put a', 'store: append a', 'store: finish a']);
});

it('the settings that all kinds have are known without their schema, and no kind has one of the same name', async () => {
  expect(Object.keys(commonConfigSchema.shape).toSorted()).toEqual([...COMMON_SETTINGS].toSorted());
  for (const type of ['local', 'nfs', 'cifs', 'smb', 's3', 'azure']) {
    const { shape } = await (await loadStoreKind(type)).loadConfigSchema();
    expect(
      Object.keys(shape).filter((name) => COMMON_SETTINGS.includes(name)),
      type,
    ).toEqual([]);
  }
});
