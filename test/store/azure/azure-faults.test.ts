// A line and a server with faults between an Azure store and its container: what was reported as written is there, what was refused is not.

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Secret } from '../../../src/plumbing/secret.ts';
import { openContainer } from '../../../src/store/azure/azure-container.ts';
import { removeStaged } from '../../../src/store/azure/azure-uncommitted.ts';
import type { BlobStore } from '../../../src/store/blob-store.ts';
import { codeOf, listLeftovers, patternBytes, readBlob } from '../../../src/store/testing/store-probe.ts';
import { listNames, writeBlob } from '../../../src/store/trial.ts';
import { type Loss, type LossyProxy, startLossyProxy } from '../../servers/lossy-proxy.ts';
import { type AzurePlace, azurePlace, azuriteForFile } from './azure-place.ts';

const MIB = 2 ** 20;
const server = azuriteForFile();
let proxy: LossyProxy;

beforeAll(async () => {
  proxy = await startLossyProxy(server().endpoint);
});
afterAll(() => proxy?.stop());
afterEach(() => {
  proxy.requests.length = 0;
  proxy.lose = () => undefined;
});

async function open(): Promise<{ store: BlobStore; place: AzurePlace }> {
  const place = await azurePlace(server(), proxy.endpoint);
  return { store: await place.open({ upload_part_size_mib: 5 }), place };
}

/** The first `times` requests that fit suffer it; answers what tells how many are still to come. */
function suffer(loss: Loss, pattern: RegExp, times = 1): () => number {
  let left = times;
  proxy.lose = (request) => {
    if (left === 0 || !pattern.test(request)) return undefined;
    left -= 1;
    return loss;
  };
  return () => left;
}

const UPLOAD = /^PUT \/[^?]*\/(small|large)$/;
const BLOCK = /^PUT .*comp=block&/;
const COMMIT = /^PUT .*comp=blocklist/;
const LOSSES: readonly Loss[] = ['answer lost', 'request lost', 'request changed', 'twice', 'busy', 'failed'];

describe.each(LOSSES)('%s', (loss) => {
  it('of an upload: a small blob is there once, and the writer knows it', async () => {
    const { store } = await open();
    const left = suffer(loss, UPLOAD);
    await writeBlob(store, 'small', 'content', { ifAbsent: true });
    expect(left()).toBe(0);
    expect((await readBlob(store, 'small')).toString()).toBe('content');
    expect(await codeOf(writeBlob(store, 'small', 'other', { ifAbsent: true }))).toBe('BLOB_EXISTS');
  });

  it('of a block, and of the commit: a large blob is there as it was written', async () => {
    const { store } = await open();
    const bytes = patternBytes(7 * MIB);
    const hit = new Set<RegExp>();
    proxy.lose = (request) => {
      const pattern = [BLOCK, COMMIT].find((one) => one.test(request) && !hit.has(one));
      if (pattern) hit.add(pattern);
      return pattern && loss;
    };
    const sink = await store.put('large', { headLength: 100, ifAbsent: true });
    await sink.append([bytes]);
    expect(await sink.finish(Buffer.alloc(100, 'h'))).toEqual({ size: 7 * MIB + 100 });
    expect(hit.size).toBe(2);
    const read = await readBlob(store, 'large');
    expect(read.subarray(100).equals(bytes) && read.subarray(0, 100).equals(Buffer.alloc(100, 'h'))).toBe(true);
  });
});

it('a create that had no answer is not found later: its abort takes it back', async () => {
  const { store, place } = await open();
  suffer('answer lost', /^(PUT|HEAD)/, 50);
  const sink = await store.put('small', { ifAbsent: true });
  await sink.append([Buffer.from('content')]);
  expect(await codeOf(sink.finish(new Uint8Array(0)))).toBe('REPOSITORY_OFFLINE');
  expect(await place.container.getBlobClient('small').exists(), 'it arrived').toBe(true);
  proxy.lose = () => undefined;
  await sink.abort();
  expect(await listNames(store)).toEqual([]);
});

it('a refused create leaves the blob of the other writer alone, also when it is aborted', async () => {
  const { store } = await open();
  const bytes = patternBytes(6 * MIB);
  const late = await store.put('large', { ifAbsent: true });
  await late.append([bytes]);
  await writeBlob(store, 'large', 'early', { ifAbsent: true });
  suffer('twice', COMMIT);
  expect(await codeOf(late.finish(new Uint8Array(0)))).toBe('BLOB_EXISTS');
  await late.abort();
  expect((await readBlob(store, 'large')).toString()).toBe('early');
});

it('blocks that another commit took away fail the writer of a replacement', async () => {
  const { store } = await open();
  await writeBlob(store, 'large', 'first');
  const [early, late] = [await store.put('large'), await store.put('large')];
  for (const [seed, sink] of [early, late].entries()) {
    await sink.append([patternBytes(6 * MIB, seed + 1)]);
    await expect.poll(() => proxy.requests.filter((request) => BLOCK.test(request) && request.includes('/large')).length).toBe(seed + 1);
  }
  await late.finish(new Uint8Array(0));
  expect(await codeOf(early.finish(new Uint8Array(0)))).toBe('STORE_FAILED');
  await early.abort();
  expect((await readBlob(store, 'large')).equals(patternBytes(6 * MIB, 2))).toBe(true);
});

describe.each(['answer lost', 'answer cut', 'answer changed', 'request lost', 'busy', 'failed'] as const)('%s', (loss) => {
  it('of a read: the same bytes come at last, when opening and later', async () => {
    const { store } = await open();
    const bytes = patternBytes(3 * MIB);
    await writeBlob(store, 'a', bytes);
    const opening = suffer(loss, /^GET/);
    const source = await store.open('a');
    const later = suffer(loss, /^GET/);
    const read = Buffer.alloc(2 * MIB);
    await source.read(read, MIB);
    expect([opening(), later()]).toEqual([0, 0]);
    expect(read.equals(bytes.subarray(MIB))).toBe(true);
    await source.close();
  });

  it('of a listing, a look and a delete', async ({ skip }) => {
    if (loss === 'answer changed') return skip('a listing has no digest');
    const { store } = await open();
    for (const name of ['a', 'b']) await writeBlob(store, name, name);
    const listing = suffer(loss, /comp=list/);
    expect(await listNames(store)).toEqual(['a', 'b']);
    const look = suffer(loss, /^HEAD/);
    expect((await store.stat('a'))?.size).toBe(1);
    const removal = suffer(loss, /^DELETE/);
    await store.delete('a');
    expect([listing(), look(), removal()]).toEqual([0, 0, 0]);
    expect(await store.stat('a')).toBeUndefined();
  });
});

it('a read that never gets through is an error, not zeros', async () => {
  const { store } = await open();
  await writeBlob(store, 'a', patternBytes(MIB));
  const source = await store.open('a');
  suffer('answer changed', /^GET/, 50);
  expect(await codeOf(source.read(new Uint8Array(10), 900_000))).toBe('REPOSITORY_OFFLINE');
  proxy.lose = () => undefined;
  const bytes = Buffer.alloc(10);
  await source.read(bytes, 900_000);
  expect(bytes.equals(patternBytes(MIB).subarray(900_000, 900_010))).toBe(true);
  await source.close();
});

it('an abort while the server is away leaves what a sweep finds', async () => {
  const { store } = await open();
  const sink = await store.put('large');
  await sink.append([patternBytes(6 * MIB)]);
  await expect.poll(() => proxy.requests.some((request) => BLOCK.test(request) && request.includes('/large'))).toBe(true);
  proxy.lose = () => 'request lost';
  await expect(sink.abort()).rejects.toMatchObject({ code: 'REPOSITORY_OFFLINE' });
  proxy.lose = () => undefined;
  expect((await store.sweep('', () => true)).map(({ name }) => name)).toEqual(['large']);
  expect(await store.sweep('', () => true)).toEqual([]);
});

it('what is committed is no leftover, whenever it was committed', async () => {
  const { store, place } = await open();
  await writeBlob(store, 'a', 'content');
  const container = openContainer({ ...place.config, account_key: new Secret(place.key) });
  expect(await removeStaged(container, 'a')).toBe(false);
  expect(await removeStaged(container, 'nothing')).toBe(false);
  await writeBlob(store, 'a', 'replaced'); // no lease is left behind
  expect((await readBlob(store, 'a')).toString()).toBe('replaced');
});

it('a sweep asks for no blocks of the empty blobs that we made', async () => {
  const { store } = await open();
  for (const name of ['1', '2', '3']) await writeBlob(store, name, '', { ifAbsent: true });
  proxy.requests.length = 0;
  expect(await store.sweep('', () => true)).toEqual([]);
  expect(proxy.requests.length, proxy.requests.join('\n')).toBe(1);
});

it('a lease on what is being written is no other blob of that name', async () => {
  const { store, place } = await open();
  const sink = await store.put('large', { ifAbsent: true });
  await sink.append([patternBytes(6 * MIB)]);
  await expect.poll(() => listLeftovers(store)).toEqual(['large']);
  await place.container.getBlobClient('large').getBlobLeaseClient().acquireLease(15);
  expect(await codeOf(sink.finish(new Uint8Array(0)))).toBe('STORE_FAILED');
});

it('an abort gives staged blocks back', async () => {
  const { store } = await open();
  const sink = await store.put('large');
  await sink.append([patternBytes(6 * MIB)]);
  await expect.poll(() => listLeftovers(store)).toEqual(['large']);
  await sink.abort();
  expect(await listLeftovers(store)).toEqual([]);
});
