// How a bucket is reached and what the server is told to encrypt: addresses, temporary keys, keys of the environment, keys for the data.

import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import dns from 'node:dns';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GetObjectCommand, HeadObjectCommand } from '@aws-sdk/client-s3';
import { afterEach, beforeAll, describe, expect, inject, it, vi } from 'vitest';
import { Secret } from '../../../src/plumbing/secret.ts';
import { openStore } from '../../../src/store/registry.ts';
import { codeOf, patternBytes, readBlob } from '../../../src/store/testing/store-probe.ts';
import { listNames, writeBlob } from '../../../src/store/trial.ts';
import { makeBucket, storeConfig, vendorClient } from '../../servers/s3-bucket.ts';

const MIB = 2 ** 20;
const LAUNCHER = join(import.meta.dirname, '../../../chainkeep');
const undo: (() => Promise<unknown> | unknown)[] = [];
let bucket = '';

beforeAll(async () => {
  bucket = await makeBucket(inject('s3'));
});
afterEach(async () => {
  for (const step of undo.splice(0).toReversed()) await step();
});

/** Keeps what it is asked, and has an empty bucket. */
async function recorder(): Promise<{ readonly port: number; readonly requests: IncomingMessage[] }> {
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    requests.push(request);
    response.end('<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  undo.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  return { port: typeof address === 'object' && address ? address.port : 0, requests };
}

describe('the address', () => {
  it.each([
    [true, 's3.test', '/backups/'],
    [false, 'backups.s3.test', '/'],
  ])('with path_style=%s has the bucket in %s%s', async (path_style, host, path) => {
    const { port, requests } = await recorder();
    // No name server here knows the host.
    const spy = vi.spyOn(dns, 'lookup');
    spy.mockImplementation(((_name: string, options: { all?: boolean }, done: (...found: unknown[]) => void) =>
      options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4)) as never);
    undo.push(() => spy.mockRestore());
    const endpoint = `http://s3.test:${port}`;
    const store = await openStore('s3', storeConfig({ ...inject('s3'), endpoint }, 'backups', { path_style }), { create: false });
    undo.push(() => store.close());
    expect(await listNames(store)).toEqual([]);
    const { pathname } = new URL(requests[0]?.url ?? '', endpoint);
    expect([requests[0]?.headers.host, pathname.endsWith('/') ? pathname : `${pathname}/`]).toEqual([`${host}:${port}`, path]);
  });
});

describe('keys', () => {
  it('that end go with their session token, which is signed', async () => {
    const { port, requests } = await recorder();
    const address = { ...inject('s3'), endpoint: `http://127.0.0.1:${port}` };
    const store = await openStore('s3', storeConfig(address, 'backups', { session_token: new Secret('the-token') }), { create: false });
    undo.push(() => store.close());
    await listNames(store);
    expect(requests[0]?.headers['x-amz-security-token']).toBe('the-token');
    expect(requests[0]?.headers.authorization).toMatch(/SignedHeaders=[^,]*x-amz-security-token/);
  });

  it.each([
    ['the environment', () => undefined],
    [
      'the profile',
      (home: string, keys: string) => {
        writeFileSync(join(home, 'credentials'), `[backup]\n${keys}\n`);
        return { AWS_PROFILE: 'backup', AWS_SHARED_CREDENTIALS_FILE: join(home, 'credentials') };
      },
    ],
  ])('that are not given come from %s', (_where, profile) => {
    const home = mkdtempSync(join(tmpdir(), 'chainkeep-keys-'));
    undo.push(() => rmSync(home, { recursive: true }));
    const { endpoint, accessKeyId, secretAccessKey } = inject('s3');
    const env = profile(home, `aws_access_key_id=${accessKeyId}\naws_secret_access_key=${secretAccessKey}`) ?? {
      AWS_ACCESS_KEY_ID: accessKeyId,
      AWS_SECRET_ACCESS_KEY: secretAccessKey,
    };
    const run = (...args: readonly string[]): string =>
      execFileSync(LAUNCHER, args, {
        env: { ...process.env, AWS_EC2_METADATA_DISABLED: 'true', CHAINKEEP_HOME: home, ...env },
        encoding: 'utf8',
      });
    const settings = { bucket, endpoint, path_style: 'true', prefix: randomBytes(6).toString('hex') };
    run('repo', 'add', 'cloud', '--type', 's3', ...Object.entries(settings).flatMap(([name, value]) => ['--set', `${name}=${value}`]));
    expect(run('repo', 'test', 'cloud')).toContain('authenticate');
    const { config } = JSON.parse(run('repo', 'show', 'cloud', '--json'));
    expect(config).not.toHaveProperty('access_key_id');
  });
});

describe('the server encrypts', () => {
  const key = randomBytes(32);
  const customer = { SSECustomerAlgorithm: 'AES256', SSECustomerKey: key.toString('base64') } as const;

  it.each([
    ['with a key of ours', { server_side_encryption: 'customer', customer_key: new Secret(key.toString('base64')) }, customer],
    ['with a key of its key service', { server_side_encryption: 'kms', kms_key_id: 'test-key' }, {}],
  ])('%s: whole blobs and those of many parts, and gives them back', async (_how, settings, needed) => {
    const prefix = randomBytes(6).toString('hex');
    const config = storeConfig(inject('s3'), bucket, { prefix, upload_part_size_mib: 5, upload_concurrency: 2, ...settings });
    const store = await openStore('s3', config, { create: false });
    undo.push(() => store.close());
    const vendor = vendorClient(inject('s3'));
    undo.push(() => vendor.destroy());
    for (const [name, bytes] of [
      ['small', patternBytes(1000)],
      ['large', patternBytes(36 * MIB)],
    ] as const) {
      await writeBlob(store, name, bytes, { headLength: 512, ifAbsent: true });
      expect((await readBlob(store, name)).equals(bytes), name).toBe(true);
      expect(await codeOf(writeBlob(store, name, 'other', { ifAbsent: true }))).toBe('BLOB_EXISTS');
      const object = { Bucket: bucket, Key: `${prefix}/${name}` };
      const seen = await vendor.send(new HeadObjectCommand({ ...object, ...needed }));
      expect([seen.SSECustomerAlgorithm, seen.ServerSideEncryption, seen.SSEKMSKeyId]).toEqual(
        'SSECustomerAlgorithm' in needed ? ['AES256', undefined, undefined] : [undefined, 'aws:kms', 'test-key'],
      );
      if ('SSECustomerKey' in needed) await expect(vendor.send(new GetObjectCommand(object))).rejects.toThrow();
    }
  });

  it('and nothing is to be had with another key of ours', async () => {
    const settings = (secret: Buffer) =>
      storeConfig(inject('s3'), bucket, {
        prefix: 'other-key',
        server_side_encryption: 'customer',
        customer_key: new Secret(secret.toString('base64')),
      });
    const store = await openStore('s3', settings(key), { create: false });
    undo.push(() => store.close());
    await writeBlob(store, 'a', 'x');
    const other = await openStore('s3', settings(randomBytes(32)), { create: false });
    undo.push(() => other.close());
    expect(await codeOf(readBlob(other, 'a'))).toMatch(/^(STORE_FAILED|REPOSITORY_OFFLINE)$/);
  });
});
