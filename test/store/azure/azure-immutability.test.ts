// Locks of an Azure repository, against a stub that keeps policies as Azure's documents say: Azurite itself answers them with 501.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Secret } from '../../../src/plumbing/secret.ts';
import type { BlobStore } from '../../../src/store/blob-store.ts';
import { openStore } from '../../../src/store/registry.ts';
import type { StoreUnderTest } from '../../../src/store/testing/conformance.ts';
import { protectionBehaviours } from '../../../src/store/testing/conformance-protection.ts';
import { codeOf, readBlob } from '../../../src/store/testing/store-probe.ts';
import { listNames, writeBlob } from '../../../src/store/trial.ts';
import { type ImmutabilityStub, startImmutabilityStub } from '../../servers/azure-immutability-stub.ts';
import { containerClient } from '../../servers/azurite.ts';
import { azurePlace, azureUnderTest, azuriteForFile } from './azure-place.ts';

const DAY = 24 * 3600_000;
const server = azuriteForFile();
let stub: ImmutabilityStub;

beforeAll(async () => {
  stub = await startImmutabilityStub(server());
});
afterAll(() => stub?.stop());
afterEach(() => {
  stub.ahead = 0;
  stub.plainDeleteHides = true;
  stub.ignoresPolicies = false;
  stub.hierarchical = false;
  stub.dateless = false;
  stub.before = () => undefined;
});

const IMMUTABLE = { use_immutable_blobs: true };

describe('store conformance: azure with immutable blobs', () => {
  let current: StoreUnderTest | undefined;
  beforeEach(async () => {
    current = await azureUnderTest(server(), { ...IMMUTABLE, prefix: 'a/b' }, stub.endpoint);
  });
  protectionBehaviours(() => {
    if (!current) throw new Error('a store is only there inside a test');
    return current;
  });
});

/** A store with a locked blob `vms/a` that reads `kept`, and the vendor's client of somebody who has the key. */
async function lockedBlob(): Promise<{ store: BlobStore; attacker: ReturnType<typeof containerClient>; until: number }> {
  const { open, container } = await azurePlace(server(), stub.endpoint);
  const store = await open(IMMUTABLE);
  await writeBlob(store, 'vms/a', 'kept');
  const until = Date.now() + DAY;
  await store.protect('vms/a', { until });
  const attacker = containerClient({ endpoint: stub.endpoint, account: server().account, key: server().key }, container.containerName);
  return { store, attacker, until };
}

describe('somebody with the key of the account', () => {
  it.each([true, false])('who deletes a locked blob hides it at most (hides: %s)', async (hides) => {
    stub.plainDeleteHides = hides;
    const { store, attacker } = await lockedBlob();
    const outcome = await attacker.deleteBlob('vms/a').then(
      () => 'hidden',
      () => 'refused',
    );
    expect(outcome).toBe(hides ? 'hidden' : 'refused');
    expect((await readBlob(store, 'vms/a')).toString()).toBe('kept');
    expect(await listNames(store)).toEqual(['vms/a']);
    expect((await store.stat('vms/a'))?.size).toBe(4);
    expect(await codeOf(store.delete('vms/a'))).toBe('IMMUTABLE_RETENTION_ACTIVE');
    expect(await codeOf(writeBlob(store, 'vms/a', 'new', { ifAbsent: true }))).toBe('BLOB_EXISTS');
    expect(await codeOf(writeBlob(store, 'vms/a', 'new'))).toBe('IMMUTABLE_RETENTION_ACTIVE');
  });

  it('who overwrites a locked blob changes nothing: the oldest locked version is what the name means', async () => {
    const { store, attacker, until } = await lockedBlob();
    for (const content of ['junk', 'more junk']) await attacker.getBlockBlobClient('vms/a').upload(content, content.length);
    await attacker.getBlobClient('vms/a').setImmutabilityPolicy({ expiriesOn: new Date(until + 9 * DAY), policyMode: 'Locked' });
    expect((await readBlob(store, 'vms/a')).toString()).toBe('kept');
    expect((await store.stat('vms/a'))?.size).toBe(4);
    const sizes: number[] = [];
    for await (const blob of store.list('vms/')) sizes.push(blob.size);
    expect(sizes).toEqual([4]);
    await store.protect('vms/a', { until: until + DAY });
    expect((await store.protectionOf('vms/a'))?.until).toBeLessThanOrEqual(until + DAY + 1000);
  });

  it('who asks for the locked version itself is refused, and cannot take the policy away', async () => {
    const { attacker } = await lockedBlob();
    const blob = attacker.getBlobClient('vms/a');
    const { versionId = '' } = await blob.getProperties();
    await attacker.deleteBlob('vms/a');
    await expect(blob.withVersion(versionId).delete()).rejects.toMatchObject({ code: 'BlobImmutableDueToPolicy' });
    await expect(blob.withVersion(versionId).deleteImmutabilityPolicy()).rejects.toMatchObject({ statusCode: 409 });
    const sooner = { expiriesOn: new Date(Date.now() + DAY / 2), policyMode: 'Locked' } as const;
    await expect(blob.withVersion(versionId).setImmutabilityPolicy(sooner)).rejects.toMatchObject({ statusCode: 409 });
  });
});

it('a blob that is open reads on while somebody overwrites and deletes it', async () => {
  const { store, attacker } = await lockedBlob();
  const source = await store.open('vms/a');
  await attacker.getBlockBlobClient('vms/a').upload('junk', 4);
  await attacker.deleteBlob('vms/a');
  const bytes = Buffer.alloc(4);
  await source.read(bytes, 0);
  expect(bytes.toString()).toBe('kept');
  await source.close();
});

it('a blob that is replaced while it is opened is opened all the same', async () => {
  const { open } = await azurePlace(server(), stub.endpoint);
  const store = await open(IMMUTABLE);
  await writeBlob(store, 'a', 'old');
  let replaced = false;
  stub.before = async (request) => {
    if (replaced || !/^GET .*versionid=/.test(request)) return;
    replaced = true;
    await writeBlob(store, 'a', 'newer');
  };
  expect((await readBlob(store, 'a')).toString()).toBe('newer');
  expect(replaced).toBe(true);
});

it('when the date has passed, a delete takes every version away, and only then', async () => {
  const { store, attacker } = await lockedBlob();
  await attacker.getBlockBlobClient('vms/a').upload('junk', 4);
  stub.ahead = DAY - 60_000;
  expect(await codeOf(store.delete('vms/a'))).toBe('IMMUTABLE_RETENTION_ACTIVE');
  stub.ahead = DAY + 60_000;
  expect(await store.protectionOf('vms/a')).toBeUndefined();
  expect((await readBlob(store, 'vms/a')).toString()).toBe('junk');
  await store.delete('vms/a');
  expect(await store.stat('vms/a')).toBeUndefined();
  const left: string[] = [];
  for await (const item of attacker.listBlobsFlat({ includeVersions: true })) left.push(item.name);
  expect(left).toEqual([]);
});

it('deleted versions free a name, and versions that are kept count as used', async () => {
  const { open, container } = await azurePlace(server(), stub.endpoint);
  const store = await open({ ...IMMUTABLE, quota_bytes: 1000 });
  for (const content of ['12345', '1234567']) await writeBlob(store, 'a', content);
  expect(await store.capacity(), 'who replaces leaves nothing behind').toEqual({ totalBytes: 1000, usedBytes: 7, availableBytes: 993 });
  const own = containerClient({ endpoint: stub.endpoint, account: server().account, key: server().key }, container.containerName);
  await own.getBlockBlobClient('a').upload('123', 3);
  expect((await store.capacity())?.usedBytes).toBe(10);
  await own.deleteBlob('a');
  expect(await store.stat('a')).toBeUndefined();
  expect(await listNames(store)).toEqual([]);
  expect(await codeOf(store.open('a'))).toBe('BLOB_NOT_FOUND');
  await writeBlob(store, 'a', 'new', { ifAbsent: true });
  expect((await readBlob(store, 'a')).toString()).toBe('new');
  await store.delete('a');
  expect((await store.capacity())?.usedBytes).toBe(0);
});

it('names and versions that go over many pages are all seen', async () => {
  const { open, container } = await azurePlace(server(), stub.endpoint);
  const store = await open(IMMUTABLE);
  const own = containerClient({ endpoint: stub.endpoint, account: server().account, key: server().key }, container.containerName);
  await writeBlob(store, 'a', 'first');
  for (let round = 0; round < 20; round += 1) await own.getBlockBlobClient('a').upload(`${round}`, `${round}`.length);
  await store.protect('a', { hold: true });
  await writeBlob(store, 'a-b', 'x');
  await writeBlob(store, 'a/c', 'y');
  expect((await readBlob(store, 'a')).toString()).toBe('19');
  expect(await listNames(store)).toEqual(['a', 'a-b', 'a/c']);
});

it('an extension that changes nothing is one listing', async () => {
  const { store, until } = await lockedBlob();
  stub.requests.length = 0;
  await store.protect('vms/a', { until });
  expect(stub.requests.length).toBe(1);
});

it('a server that pretends to lock is found out', async () => {
  const { open } = await azurePlace(server(), stub.endpoint);
  const store = await open(IMMUTABLE);
  await writeBlob(store, 'a', 'x');
  stub.ignoresPolicies = true;
  expect(await codeOf(store.protect('a', { until: Date.now() + DAY }))).toBe('STORE_FAILED');
});

it('an answer without a date says nothing about locks, and is not taken to say that there are none', async () => {
  const { store, attacker } = await lockedBlob();
  await attacker.getBlockBlobClient('vms/a').upload('junk', 4);
  stub.dateless = true;
  expect(await codeOf(readBlob(store, 'vms/a'))).toBe('STORE_FAILED');
  expect(await codeOf(listNames(store))).toBe('STORE_FAILED');
  expect(await codeOf(store.protectionOf('vms/a'))).toBe('STORE_FAILED');
  expect(await codeOf(writeBlob(store, 'vms/a', 'new'))).toBe('STORE_FAILED');
  expect(await codeOf(store.now())).toBe('STORE_FAILED');
  stub.dateless = false;
  expect((await readBlob(store, 'vms/a')).toString()).toBe('kept');
});

it('a policy that may still be shortened is locked, and never to an earlier date', async () => {
  const { store, attacker, until } = await lockedBlob();
  await writeBlob(store, 'b', 'x');
  const far = new Date(until + 3 * DAY);
  await attacker.getBlobClient('b').setImmutabilityPolicy({ expiriesOn: far, policyMode: 'Unlocked' });
  await store.protect('b', { until });
  expect((await store.protectionOf('b'))?.until).toBe(Math.floor(far.getTime() / 1000) * 1000);
  await expect(attacker.getBlobClient('b').deleteImmutabilityPolicy()).rejects.toMatchObject({ statusCode: 409 });
});

it('a container without support is refused when it is opened, and a store without the setting locks nothing', async () => {
  const { open } = await azurePlace(server());
  expect(await codeOf(open(IMMUTABLE))).toBe('CONFIG_INVALID');
  const store = await open();
  await writeBlob(store, 'a', 'x');
  expect(store.capabilities.retention).toBe('none');
  expect(await codeOf(store.protect('a', { until: Date.now() + DAY }))).toBe('NOT_SUPPORTED');
});

it('an account with a hierarchical namespace is refused when it is registered', async () => {
  const { config, key } = await azurePlace(server(), stub.endpoint);
  stub.hierarchical = true;
  const open = (create: boolean) => openStore('azure', { ...config, account_key: new Secret(key) }, { create });
  expect(await codeOf(open(true))).toBe('CONFIG_INVALID');
  await (await open(false)).close();
});
