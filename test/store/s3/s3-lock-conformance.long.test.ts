// The conformance suite over a bucket with Object Lock, where every name is looked up among its versions. Its groups about protection, and what somebody
// else does to such a bucket, run in every test run: object-lock.test.ts.

import { beforeAll, inject } from 'vitest';
import { storeConformance } from '../../../src/store/testing/conformance.ts';
import { makeBucket } from '../../servers/s3-bucket.ts';
import { makeS3 } from './s3-under-test.ts';

let bucket = '';
beforeAll(async () => {
  bucket = await makeBucket(inject('s3'), true);
});

storeConformance('s3 with Object Lock', () => makeS3(bucket, { use_object_lock: true, object_lock_mode: 'compliance' }));
