// The object stores that the campaign attacks: each a real server, a fresh bucket or container for each story, and the vendor's client for the judges.

import { randomBytes } from 'node:crypto';
import { Secret } from '../../src/plumbing/secret.ts';
import { makeContainer, startAzurite } from '../../test/servers/azurite.ts';
import { AZURE_ERRORS, type ErrorAnswers, S3_ERRORS } from '../../test/servers/fault-proxy.ts';
import { givenS3, startRgw } from '../../test/servers/rgw.ts';
import { download, lockedUntil, makeBucket } from '../../test/servers/s3-bucket.ts';

/** A server that runs. */
export interface ObjectServer {
  readonly name: string;
  /** Its address, for the proxy in front of it. */
  readonly upstream: string;
  readonly errors: ErrorAnswers;
  /** A place of its own for one story; the program reaches it at `endpoint`. */
  makePlace(endpoint: string): Promise<ObjectPlace>;
  stop(): Promise<void>;
}

export interface ObjectPlace {
  readonly type: 's3' | 'azure';
  readonly settings: Readonly<Record<string, unknown>>;
  readonly secrets: Readonly<Record<string, Secret>>;
  /** Everything in it, past the program and the proxy. */
  fetchAll(): Promise<ReadonlyMap<string, Buffer>>;
  /** Only where the repository locks its backups: until when the server refuses to delete what has this key; 0 where it does not. */
  lockedUntil?(key: string): Promise<number>;
}

/** Small parts: images of a few MiB go in several. */
const SMALL_PARTS = { upload_part_size_mib: 5, upload_concurrency: 2 };

export const SERVERS: readonly (() => Promise<ObjectServer>)[] = [() => s3Server(false), () => s3Server(true), azureServer];

const LOCK_SETTINGS = { use_object_lock: true, immutable_config: { type: 's3_object_lock', min_retention_days: 1 } };

async function s3Server(locks: boolean): Promise<ObjectServer> {
  const given = givenS3();
  const server = given ? undefined : await startRgw();
  const address = given ?? server?.address;
  if (!address) throw new Error('there is no S3 server');
  return {
    name: locks ? 'S3 with Object Lock' : 'S3',
    upstream: address.endpoint,
    errors: S3_ERRORS,
    makePlace: async (endpoint) => {
      const bucket = await makeBucket(address, locks);
      const settings = { bucket, endpoint, access_key_id: address.accessKeyId, path_style: true, ...SMALL_PARTS };
      return {
        type: 's3',
        settings: locks ? { ...settings, ...LOCK_SETTINGS } : settings,
        secrets: { secret_access_key: new Secret(address.secretAccessKey) },
        fetchAll: () => download(address, bucket),
        ...(locks && { lockedUntil: (key) => lockedUntil(address, bucket, key) }),
      };
    },
    stop: async () => server?.stop(),
  };
}

async function azureServer(): Promise<ObjectServer> {
  const server = await startAzurite();
  return {
    name: 'Azure',
    upstream: server.endpoint,
    errors: AZURE_ERRORS,
    makePlace: async (endpoint) => {
      const name = `story-${randomBytes(6).toString('hex')}`;
      const container = await makeContainer(server, name);
      return {
        type: 'azure',
        settings: { account_name: server.account, container_name: name, endpoint, ...SMALL_PARTS },
        secrets: { account_key: new Secret(server.key) },
        fetchAll: async () => {
          const found = new Map<string, Buffer>();
          for await (const { name: key } of container.listBlobsFlat())
            found.set(key, await container.getBlobClient(key).downloadToBuffer());
          return found;
        },
      };
    },
    stop: () => server.stop(),
  };
}
