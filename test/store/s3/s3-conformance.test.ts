// The conformance suite over a plain S3 bucket, on a real Ceph gateway.

import { beforeAll, inject } from 'vitest';
import { storeConformance } from '../../../src/store/testing/conformance.ts';
import { makeBucket } from '../../servers/s3-bucket.ts';
import { makeS3 } from './s3-under-test.ts';

let bucket = '';
beforeAll(async () => {
  bucket = await makeBucket(inject('s3'));
});

storeConformance('s3', () => makeS3(bucket));
