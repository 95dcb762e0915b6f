// A line and a server with faults between an S3 store and its bucket, with and without Object Lock: what was reported as written is there, once.

import { ListObjectVersionsCommand, type S3Client } from '@aws-sdk/client-s3';
import { afterAll, afterEach, beforeAll, describe, expect, inject, it } from 'vitest';
import type { BlobStore } from '../../../src/store/blob-store.ts';
import { openStore } from '../../../src/store/registry.ts';
import { codeOf, patternBytes, readBlob } from '../../../src/store/testing/store-probe.ts';
import { listNames, writeBlob } from '../../../src/store/trial.ts';
import { type Loss, type LossyProxy, startLossyProxy } from '../../servers/lossy-proxy.ts';
import { makeBucket, storeConfig, vendorClient } from '../../servers/s3-bucket.ts';

const MIB = 2 ** 20;
const LOSSES: readonly Loss[] = ['answer lost', 'request lost', 'request changed', 'twice', 'busy', 'failed'];
const WHOLE = /^PUT [^?]*\/small/;
const PART = /^PUT .*partNumber=/;
const COMPLETE = /^POST .*uploadId=/;

describe.each([
  ['a plain bucket', false],
  ['a bucket with Object Lock', true],
] as const)('%s', (_kind, locked) => {
  let proxy: LossyProxy;
  let vendor: S3Client;
  let bucket = '';
  let store: BlobStore;
  let folder = 0;

  beforeAll(async () => {
    bucket = await makeBucket(inject('s3'), locked);
    vendor = vendorClient(inject('s3'));
    proxy = await startLossyProxy(inject('s3').endpoint);
    const address = { ...inject('s3'), endpoint: proxy.endpoint };
    store = await openStore('s3', storeConfig(address, bucket, { use_object_lock: locked, upload_part_size_mib: 5 }), { create: false });
    await writeBlob(store, 'probed', 'x', { ifAbsent: true });
  });
  afterAll(async () => {
    await store?.close();
    vendor?.destroy();
    await proxy?.stop();
  });
  afterEach(() => {
    proxy.lose = () => undefined;
  });

  const newFolder = (): string => `${++folder}/`;

  async function versionsOf(Prefix: string): Promise<number> {
    const { Versions = [], DeleteMarkers = [] } = await vendor.send(new ListObjectVersionsCommand({ Bucket: bucket, Prefix }));
    return Versions.length + DeleteMarkers.length;
  }

  /** The first request that fits each of the patterns suffers it; answers the patterns that are still to be met. */
  function suffer(loss: Loss, ...patterns: readonly RegExp[]): Set<RegExp> {
    const left = new Set(patterns);
    proxy.lose = (request) => {
      const pattern = [...left].find((one) => one.test(request));
      if (pattern) left.delete(pattern);
      return pattern && loss;
    };
    return left;
  }

  describe.each(LOSSES)('%s', (loss) => {
    it('of an upload: a small blob is there once, and the writer knows it', async () => {
      const name = `${newFolder()}small`;
      const left = suffer(loss, WHOLE);
      await writeBlob(store, name, 'content', { ifAbsent: true });
      expect(left.size).toBe(0);
      expect((await readBlob(store, name)).toString()).toBe('content');
      expect(await versionsOf(name)).toBe(1);
      expect(await codeOf(writeBlob(store, name, 'other', { ifAbsent: true }))).toBe('BLOB_EXISTS');
      expect((await readBlob(store, name)).toString()).toBe('content');
    });

    it('of a part, and of the end of an upload: a large blob is there as it was written, once', async () => {
      const name = `${newFolder()}large`;
      const bytes = patternBytes(12 * MIB);
      const left = suffer(loss, PART, COMPLETE);
      await writeBlob(store, name, bytes, { headLength: 100, ifAbsent: true });
      expect(left.size).toBe(0);
      expect((await readBlob(store, name)).equals(bytes)).toBe(true);
      expect(await versionsOf(name)).toBe(1);
    });
  });

  it('a create that had no answer is not found later: its abort takes it back', async () => {
    const within = newFolder();
    proxy.lose = (request) => (WHOLE.test(request) ? 'answer lost' : undefined);
    const sink = await store.put(`${within}small`, { ifAbsent: true });
    await sink.append([Buffer.from('content')]);
    await expect(sink.finish(new Uint8Array(0))).rejects.toMatchObject({ code: 'REPOSITORY_OFFLINE' });
    expect(await listNames(store, within), 'it arrived').toEqual([`${within}small`]);
    proxy.lose = () => undefined;
    await sink.abort();
    expect(await versionsOf(within)).toBe(0);
  });
});
