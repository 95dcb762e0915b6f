// Object Lock against somebody who has the key of the bucket: a plain PUT and a plain DELETE only hide, and what is ours is still what a name means.

import {
  DeleteObjectCommand,
  ListObjectVersionsCommand,
  PutObjectCommand,
  PutObjectLegalHoldCommand,
  PutObjectLockConfigurationCommand,
  PutObjectRetentionCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, it } from 'vitest';
import type { BlobStore } from '../../../src/store/blob-store.ts';
import { openStore } from '../../../src/store/registry.ts';
import type { StoreUnderTest } from '../../../src/store/testing/conformance.ts';
import { protectionBehaviours } from '../../../src/store/testing/conformance-protection.ts';
import { codeOf, patternBytes, readBlob } from '../../../src/store/testing/store-probe.ts';
import { listNames, writeBlob } from '../../../src/store/trial.ts';
import { startLossyProxy } from '../../servers/lossy-proxy.ts';
import { makeBucket, storeConfig, vendorClient } from '../../servers/s3-bucket.ts';
import { makeS3 } from './s3-under-test.ts';

const HOUR = 3_600_000;
const GIB = 2 ** 30;
let bucket = '';
let store: BlobStore;
let vendor: S3Client;

beforeAll(async () => {
  bucket = await makeBucket(inject('s3'), true);
  store = await open({ use_object_lock: true, quota_bytes: GIB });
  vendor = vendorClient(inject('s3'));
});
describe('protection as of every store', () => {
  let current: StoreUnderTest | undefined;
  beforeEach(async () => {
    current = await makeS3(bucket, { use_object_lock: true });
  });
  afterEach(async () => {
    await current?.store.close();
  });
  protectionBehaviours(() => {
    if (!current) throw new Error('a store is only there inside a test');
    return current;
  });
});
afterAll(async () => {
  await store.close();
  vendor.destroy();
});

function open(more: Readonly<Record<string, unknown>>, where = bucket): Promise<BlobStore> {
  return openStore('s3', storeConfig(inject('s3'), where, { prefix: 'p', ...more }), { create: false });
}

const plainPut = (name: string, Body: string) => vendor.send(new PutObjectCommand({ Bucket: bucket, Key: `p/${name}`, Body }));

async function versionsOf(name: string): Promise<number> {
  const { Versions = [], DeleteMarkers = [] } = await vendor.send(new ListObjectVersionsCommand({ Bucket: bucket, Prefix: `p/${name}` }));
  return Versions.length + DeleteMarkers.length;
}

it('a locked blob that somebody overwrites and deletes is still there, listed and read as it was', async () => {
  await writeBlob(store, 'kept', 'the backup');
  await store.protect('kept', { until: Date.now() + HOUR });
  await plainPut('kept', 'rubbish of another length');
  await vendor.send(new DeleteObjectCommand({ Bucket: bucket, Key: 'p/kept' }));
  expect((await readBlob(store, 'kept')).toString()).toBe('the backup');
  expect(await store.stat('kept')).toMatchObject({ size: 10 });
  expect(await listNames(store, 'kept')).toEqual(['kept']);
  for await (const blob of store.list('kept')) expect(blob.size).toBe(10);
  expect(await codeOf(store.delete('kept'))).toBe('IMMUTABLE_RETENTION_ACTIVE');
  expect(await codeOf(writeBlob(store, 'kept', 'new', { ifAbsent: true }))).toBe('BLOB_EXISTS');
  expect((await readBlob(store, 'kept')).toString()).toBe('the backup');
  // Both versions are paid for.
  expect((await store.capacity())?.usedBytes).toBeGreaterThanOrEqual(35);
});

it('a delete marker does not free a name that nobody locked', async () => {
  await writeBlob(store, 'open', 'still there');
  await vendor.send(new DeleteObjectCommand({ Bucket: bucket, Key: 'p/open' }));
  expect((await readBlob(store, 'open')).toString()).toBe('still there');
  expect(await codeOf(writeBlob(store, 'open', 'new', { ifAbsent: true }))).toBe('BLOB_EXISTS');
  await store.delete('open');
  expect(await versionsOf('open')).toBe(0);
});

it('of several versions the oldest that is locked counts', async () => {
  await plainPut('many', 'one');
  const { VersionId } = await plainPut('many', 'two');
  await plainPut('many', 'three');
  expect((await readBlob(store, 'many')).toString()).toBe('one');
  const Retention = { Mode: 'COMPLIANCE', RetainUntilDate: new Date(Date.now() + HOUR) } as const;
  await vendor.send(new PutObjectRetentionCommand({ Bucket: bucket, Key: 'p/many', VersionId, Retention }));
  expect((await readBlob(store, 'many')).toString()).toBe('two');
  expect(await codeOf(store.delete('many'))).toBe('IMMUTABLE_RETENTION_ACTIVE');
  expect(await versionsOf('many')).toBe(3);
});

it('a hold of the administrator of the bucket counts like ours', async () => {
  await writeBlob(store, 'held', 'x');
  await vendor.send(new PutObjectLegalHoldCommand({ Bucket: bucket, Key: 'p/held', LegalHold: { Status: 'ON' } }));
  expect(await store.protectionOf('held')).toEqual({ hold: true });
  expect(await codeOf(store.delete('held'))).toBe('HOLD_ACTIVE');
  await store.protect('held', { hold: false });
  await store.delete('held');
  expect(await versionsOf('held')).toBe(0);
});

it('replace and delete leave no old version behind', async () => {
  await writeBlob(store, 'changing', 'one');
  await writeBlob(store, 'changing', 'two');
  expect(await versionsOf('changing')).toBe(1);
  await store.delete('changing');
  expect(await versionsOf('changing')).toBe(0);
});

it('a blob of many parts is locked like a small one', async () => {
  const bytes = patternBytes(40 * 2 ** 20);
  await writeBlob(store, 'large', bytes, { headLength: 1000 });
  await store.protect('large', { until: Date.now() + HOUR });
  await plainPut('large', 'rubbish');
  expect((await readBlob(store, 'large')).equals(bytes)).toBe(true);
  expect(await codeOf(store.delete('large'))).toBe('IMMUTABLE_RETENTION_ACTIVE');
});

it('what the bucket itself has locked is said to be locked, also to an abort', async () => {
  const locking = await makeBucket(inject('s3'), true);
  const ObjectLockConfiguration = { ObjectLockEnabled: 'Enabled', Rule: { DefaultRetention: { Mode: 'COMPLIANCE', Days: 1 } } } as const;
  await vendor.send(new PutObjectLockConfigurationCommand({ Bucket: locking, ObjectLockConfiguration }));
  const proxy = await startLossyProxy(inject('s3').endpoint);
  const lossy = await openStore('s3', storeConfig({ ...inject('s3'), endpoint: proxy.endpoint }, locking, { use_object_lock: true }), {
    create: false,
  });
  proxy.lose = (request) => (request.startsWith('PUT ') ? 'answer lost' : undefined);
  const sink = await lossy.put('a', { ifAbsent: true });
  await sink.append([Buffer.from('x')]);
  expect(await codeOf(sink.finish(Buffer.alloc(0)))).toBe('REPOSITORY_OFFLINE');
  expect(await codeOf(sink.abort())).toBe('IMMUTABLE_RETENTION_ACTIVE');
  await lossy.close();
  await proxy.stop();
});

it('governance mode is said to be advisory, and is never bypassed by us', async () => {
  const governed = await open({ use_object_lock: true, object_lock_mode: 'governance' });
  expect(governed.capabilities.retention).toBe('advisory');
  await writeBlob(governed, 'governed', 'x');
  await governed.protect('governed', { until: Date.now() + HOUR });
  expect(await codeOf(governed.delete('governed'))).toBe('IMMUTABLE_RETENTION_ACTIVE');
  await governed.close();
});

it('a bucket without Object Lock is refused when it is opened', async () => {
  expect(await codeOf(open({ use_object_lock: true }, await makeBucket(inject('s3'))))).toBe('CONFIG_INVALID');
});
