// The conformance suite over S3, on a real Ceph gateway: a plain bucket, and one with Object Lock.

import { randomBytes } from 'node:crypto';
import { beforeAll, inject } from 'vitest';
import { openStore } from '../../../src/store/registry.ts';
import { type StoreUnderTest, storeConformance } from '../../../src/store/testing/conformance.ts';
import { makeBucket, storeConfig } from '../../servers/s3-bucket.ts';

const MIB = 2 ** 20;
let plain = '';
let locking = '';

beforeAll(async () => {
  plain = await makeBucket(inject('s3'));
  locking = await makeBucket(inject('s3'), true);
});

/** Each test has a folder of its own; the server is thrown away with everything, also what is locked. */
async function makeS3(bucket: string, more: Readonly<Record<string, unknown>> = {}): Promise<StoreUnderTest> {
  const config = storeConfig(inject('s3'), bucket, {
    prefix: randomBytes(6).toString('hex'),
    upload_part_size_mib: 5,
    upload_concurrency: 2,
    ...more,
  });
  return {
    store: await openStore('s3', config, { create: false }),
    elsewhere: { type: 's3', config },
    // More than may wait in memory: one part at least has arrived.
    leftoverBytes: 15 * MIB + 1,
    dispose: async () => undefined,
  };
}

storeConformance('s3', () => makeS3(plain));
storeConformance('s3 with Object Lock', () => makeS3(locking, { use_object_lock: true, object_lock_mode: 'compliance' }));
