// A store in a bucket of the test server, for the conformance suite.

import { randomBytes } from 'node:crypto';
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { inject } from 'vitest';
import { openStore } from '../../../src/store/registry.ts';
import type { StoreUnderTest } from '../../../src/store/testing/conformance.ts';
import { storeConfig, vendorClient } from '../../servers/s3-bucket.ts';

const MIB = 2 ** 20;

/** Each test has a folder of its own; the server is thrown away with everything, also what is locked. */
export async function makeS3(bucket: string, more: Readonly<Record<string, unknown>> = {}): Promise<StoreUnderTest> {
  const prefix = randomBytes(6).toString('hex');
  const config = storeConfig(inject('s3'), bucket, { prefix, upload_part_size_mib: 5, upload_concurrency: 2, ...more });
  return {
    store: await openStore('s3', config, { create: false }),
    elsewhere: { type: 's3', config: { ...config, secret_access_key: inject('s3').secretAccessKey } },
    // More than may wait in memory: one part at least has arrived.
    leftoverBytes: 15 * MIB + 1,
    putForeign: async (name) => {
      const vendor = vendorClient(inject('s3'));
      await vendor.send(new PutObjectCommand({ Bucket: bucket, Key: `${prefix}/${name}`, Body: name.endsWith('/') ? '' : 'theirs' }));
      vendor.destroy();
    },
    dispose: async () => undefined,
  };
}
