// The requests that everything else is made of: which object, with which encryption, and what a look at one answers.
// It must not decide what an answer means for a blob.

import type { S3Connection } from './s3-client.ts';
import { isNotFound } from './s3-errors.ts';
import type { S3Settings } from './s3-settings.ts';

/** Metadata of every object we write: which attempt to write it was ours. Decides what a lost answer said. */
export const WRITER = 'chainkeep-writer';

export const keyOf = ({ prefix }: S3Settings, name: string): string => prefix + name;

/** For requests that make an object. */
export function newObject({ bucket, encryption }: S3Settings, key: string) {
  const where = { Bucket: bucket, Key: key };
  if (encryption.kind === 'aes256') return { ...where, ServerSideEncryption: 'AES256' as const };
  if (encryption.kind !== 'kms') return { ...where, ...customerKey(encryption) };
  return { ...where, ServerSideEncryption: 'aws:kms' as const, ...(encryption.keyId !== undefined && { SSEKMSKeyId: encryption.keyId }) };
}

/** For requests about an object that is there, or a part of one. */
export function anObject({ bucket, encryption }: S3Settings, key: string) {
  return { Bucket: bucket, Key: key, ...customerKey(encryption) };
}

function customerKey(encryption: S3Settings['encryption']) {
  return encryption.kind === 'customer' ? { SSECustomerAlgorithm: 'AES256', SSECustomerKey: encryption.key.reveal() } : {};
}

export interface LookedAt {
  readonly size: number;
  readonly modifiedAt: number;
  readonly etag: string | undefined;
  /** Undefined where the bucket keeps no versions. */
  readonly versionId: string | undefined;
  /** Who wrote it; undefined for what is not ours. */
  readonly writer: string | undefined;
  readonly lock: { readonly until: number | undefined; readonly mode: string | undefined; readonly hold: boolean };
}

/** HEAD; undefined when there is no such object. */
export async function lookAt(connection: S3Connection, name: string, versionId?: string): Promise<LookedAt | undefined> {
  const { settings, sdk } = connection;
  const which = { ...anObject(settings, keyOf(settings, name)), ...(versionId !== undefined && { VersionId: versionId }) };
  return connection.ask({ action: `look at ${name}` }, async (client, options) => {
    try {
      const head = await client.send(new sdk.HeadObjectCommand(which), options);
      return {
        size: head.ContentLength ?? 0,
        modifiedAt: head.LastModified?.getTime() ?? 0,
        etag: head.ETag,
        versionId: realVersion(head.VersionId),
        writer: head.Metadata?.[WRITER],
        lock: {
          until: head.ObjectLockRetainUntilDate?.getTime(),
          mode: head.ObjectLockMode,
          hold: head.ObjectLockLegalHoldStatus === 'ON',
        },
      };
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  });
}

/** Is the bucket there? A HEAD of an object that is missing says the same as one in a bucket that is missing. */
export async function checkBucket(connection: S3Connection): Promise<void> {
  const { settings, sdk } = connection;
  const command = { Bucket: settings.bucket, Prefix: settings.prefix, MaxKeys: 1 };
  await connection.ask({ action: `list the bucket ${settings.bucket}` }, (client, options) =>
    client.send(new sdk.ListObjectsV2Command(command), options),
  );
}

/** Objects from before versioning was switched on have the version `null`, which is none. */
export function realVersion(versionId: string | undefined): string | undefined {
  return versionId === undefined || versionId === '' || versionId === 'null' ? undefined : versionId;
}
