// Buckets on the test server, made and looked at with the vendor's own client: the judge of what our store leaves there.

import { randomBytes } from 'node:crypto';
import { CreateBucketCommand, GetObjectCommand, GetObjectRetentionCommand, ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3';
import { Secret } from '../../src/plumbing/secret.ts';
import type { S3Address } from './rgw.ts';

export function vendorClient({ endpoint, accessKeyId, secretAccessKey }: S3Address): S3Client {
  return new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials: { accessKeyId, secretAccessKey } });
}

export async function makeBucket(address: S3Address, lock = false): Promise<string> {
  const Bucket = `test-${randomBytes(6).toString('hex')}`;
  const client = vendorClient(address);
  await client.send(new CreateBucketCommand({ Bucket, ObjectLockEnabledForBucket: lock }));
  client.destroy();
  return Bucket;
}

/** Settings of a store in the bucket, as they come out of a configuration. */
export function storeConfig(address: S3Address, bucket: string, more: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  const { endpoint, accessKeyId: access_key_id, secretAccessKey } = address;
  const secret_access_key = new Secret(secretAccessKey);
  return { endpoint, bucket, access_key_id, secret_access_key, path_style: true, region: 'us-east-1', ...more };
}

/** Every object of the bucket. */
export async function download(address: S3Address, bucket: string, prefix = ''): Promise<Map<string, Buffer>> {
  const client = vendorClient(address);
  const found = new Map<string, Buffer>();
  const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix }));
  for (const { Key = '' } of Contents) {
    const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key }));
    found.set(Key, Buffer.from((await Body?.transformToByteArray()) ?? []));
  }
  client.destroy();
  return found;
}

/** Milliseconds since 1970; 0 where the object's newest version is not locked. */
export async function lockedUntil(address: S3Address, Bucket: string, Key: string): Promise<number> {
  const client = vendorClient(address);
  try {
    const { Retention } = await client.send(new GetObjectRetentionCommand({ Bucket, Key }));
    return Retention?.RetainUntilDate?.getTime() ?? 0;
  } catch (error) {
    if (error instanceof Error && error.name === 'NoSuchObjectLockConfiguration') return 0;
    throw error;
  } finally {
    client.destroy();
  }
}
