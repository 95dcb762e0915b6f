// What servers say that are poor, wrong or unwilling, and what becomes of it: a stub answers, because no real server here does.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { openApp } from '../../src/app.ts';
import { isChainkeepError } from '../../src/plumbing/errors.ts';
import { Secret } from '../../src/plumbing/secret.ts';
import type { BlobStore } from '../../src/store/blob-store.ts';
import { openStore } from '../../src/store/registry.ts';
import { codeOf, patternBytes, readBlob } from '../../src/store/testing/store-probe.ts';
import { listNames, writeBlob } from '../../src/store/trial.ts';
import { type PoorOptions, PoorS3 } from '../servers/poor-s3.ts';

let server: PoorS3 | undefined;
let store: BlobStore | undefined;

afterEach(async () => {
  await store?.close();
  await server?.close();
});

const SECRET = 'a secret that nobody may see';

async function open(
  options: PoorOptions = {},
  more: Readonly<Record<string, unknown>> = {},
): Promise<{ server: PoorS3; store: BlobStore }> {
  server = await PoorS3.open(options);
  const keys = { access_key_id: 'key', secret_access_key: new Secret(SECRET) };
  const config = { endpoint: server.endpoint, bucket: 'bucket', path_style: true, ...keys, ...more };
  store = await openStore('s3', config, { create: false });
  return { server, store };
}

describe('create-only', () => {
  it.each([
    ['decides', true],
    ['ignores', false],
    ['refuses', false],
  ] as const)('on a server that %s conditions: a taken name is refused, and the capabilities say how', async (conditions, createOnly) => {
    const { store: s3, server: poor } = await open({ conditions });
    await writeBlob(s3, 'a', 'first', { ifAbsent: true });
    expect(await codeOf(writeBlob(s3, 'a', 'second', { ifAbsent: true }))).toBe('BLOB_EXISTS');
    expect((await readBlob(s3, 'a')).toString()).toBe('first');
    expect(s3.capabilities.createOnly).toBe(createOnly);
    expect([...poor.objects.keys()]).toEqual(['a']);
    expect(await listNames(s3)).toEqual(['a']);
  });

  it('what another writer puts in the same moment on a server without conditions is not taken for ours', async () => {
    const { store: s3, server: poor } = await open({ conditions: 'ignores' });
    await writeBlob(s3, 'probed', 'x', { ifAbsent: true });
    const sink = await s3.put('a', { ifAbsent: true });
    await sink.append([Buffer.from('ours')]);
    const { objects } = poor;
    const set = objects.set.bind(objects);
    objects.set = (key, value) => set(key, key === 'a' ? { body: Buffer.from('theirs'), writer: 'somebody' } : value);
    expect(await codeOf(sink.finish(Buffer.alloc(0)))).toBe('BLOB_EXISTS');
    await sink.abort();
    expect((await readBlob(s3, 'a')).toString()).toBe('theirs');
  });
});

describe('checksums', () => {
  it('what arrives spoilt is refused by the server and sent again', async () => {
    const { store: s3, server: poor } = await open({ spoilt: 2 });
    await writeBlob(s3, 'a', patternBytes(100_000));
    expect(poor.requests.filter((request) => request === 'PUT a').length).toBe(3);
    expect((await readBlob(s3, 'a')).equals(patternBytes(100_000))).toBe(true);
  });

  it('a way that always spoils ends in an error, not in a blob', async () => {
    const { store: s3, server: poor } = await open({ spoilt: 1000 });
    expect(await codeOf(writeBlob(s3, 'a', 'x'))).toBe('STORE_FAILED');
    expect(poor.objects.size).toBe(0);
  });

  it.each([true, false])('of an upload in parts are announced, and told again at its end, or there are none (%s)', async (checksums) => {
    const { store: s3, server: poor } = await open({}, { checksums, upload_part_size_mib: 5 });
    const bytes = patternBytes(34 * 2 ** 20);
    await writeBlob(s3, 'large', bytes, { ifAbsent: true });
    expect(poor.objects.get('large')?.body.equals(bytes)).toBe(true);
    expect(poor.checksums).toEqual(new Set([checksums ? 'CRC32' : 'none']));
  });

  it('a server that wants none gets none', async () => {
    const { store: s3, server: poor } = await open({ spoilt: 1 }, { checksums: false });
    await writeBlob(s3, 'a', 'x');
    expect(poor.objects.get('a')?.body.toString()).toBe('x?');
  });
});

it.each([false, true])('a listing that is cut and does not go on is no listing (with versions: %s)', async (versions) => {
  const { store: s3 } = await open({ cutListings: true }, { use_object_lock: versions });
  expect(await codeOf(listNames(s3))).toBe('STORE_FAILED');
  expect(await codeOf(s3.sweep('', () => true))).toBe('STORE_FAILED');
});

describe('locks', () => {
  const LOCKED = { use_object_lock: true } as const;

  it.each([
    ['refuses', 'NOT_SUPPORTED', /has no Object Lock/],
    ['pretends', 'STORE_FAILED', /is not protected: it was to be locked until/],
  ] as const)(
    'a server that %s to lock, and does not let itself be asked: no backup there is said to be locked',
    async (locks, code, message) => {
      const poor = await PoorS3.open({ locks });
      server = poor;
      const home = mkdtempSync(join(tmpdir(), 'chainkeep-poor-'));
      const app = await openApp({ home });
      try {
        const settings = { bucket: 'bucket', endpoint: poor.endpoint, access_key_id: 'key', path_style: true, ...LOCKED };
        const immutable = { 'immutable_config.type': 's3_object_lock', 'immutable_config.min_retention_days': '3' };
        const secrets = { secret_access_key: new Secret(SECRET) };
        await app.addRepository({ name: 'vault', type: 's3', take_over: false, settings: { ...settings, ...immutable }, secrets });
        writeFileSync(join(home, 'disk.raw'), patternBytes(2 ** 20));
        const disks = [{ disk_id: 0, source: join(home, 'disk.raw') }];
        const input = { vm: 'vm', disks, repository: 'vault', type: 'auto', compression: 'none', format: 'raw' } as const;
        const backup = app.backup({ ...input, with_backing: false, dry_run: false }, {});
        await expect(backup).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
      } finally {
        await app.close();
        rmSync(home, { recursive: true });
      }
    },
  );
});

describe('errors', () => {
  it.each([
    [403, 'InvalidAccessKeyId', 'REPOSITORY_OFFLINE', /does not accept the access key/],
    [403, 'SignatureDoesNotMatch', 'REPOSITORY_OFFLINE', /does not accept the access key/],
    [400, 'ExpiredToken', 'REPOSITORY_OFFLINE', /has ended/],
    [403, 'AccessDenied', 'REPOSITORY_OFFLINE', /no permission/],
    [404, 'NoSuchBucket', 'REPOSITORY_OFFLINE', /there is no bucket bucket/],
    [301, 'PermanentRedirect', 'REPOSITORY_OFFLINE', /is not in region us-east-1/],
    [400, 'AuthorizationHeaderMalformed', 'REPOSITORY_OFFLINE', /is not in region us-east-1/],
    [400, 'SomethingNew', 'STORE_FAILED', /cannot list/],
    [507, 'InsufficientCapacity', 'INSUFFICIENT_STORAGE', /cannot list/],
    [403, 'QuotaExceeded', 'INSUFFICIENT_STORAGE', /quota/],
    [404, 'constructor', 'STORE_FAILED', /cannot list/],
  ] as const)('%i %s is %s at once, with advice and without a secret', async (status, code, expected, message) => {
    const { store: s3, server: poor } = await open();
    poor.fail({ status, code });
    const error: unknown = await listNames(s3).catch((caught: unknown) => caught);
    if (!isChainkeepError(error)) throw error;
    expect(error.code).toBe(expected);
    expect(error.message).toMatch(message);
    expect(error.advice ?? '').not.toBe('');
    expect(JSON.stringify([error.message, error.advice, error.context])).not.toContain(SECRET);
    expect(poor.requests.length).toBe(1);
  });

  it('of a page that a proxy answers with one line is told', async () => {
    const { store: s3, server: poor } = await open();
    poor.fail({ status: 400, code: 'Odd', message: `what is wrong${' '.repeat(500)}\nand more of it` });
    const error: unknown = await listNames(s3).catch((caught: unknown) => caught);
    if (!isChainkeepError(error)) throw error;
    expect(error.message).toMatch(/^cannot list all blobs: what is wrong/);
    expect(error.message).not.toContain('and more');
    expect(error.message.length).toBeLessThan(400);
  });

  it('no permission to write is said as such', async () => {
    const { store: s3, server: poor } = await open();
    poor.fail({ status: 403, code: 'AccessDenied' });
    expect(await codeOf(writeBlob(s3, 'a', 'x'))).toBe('REPOSITORY_READ_ONLY');
  });

  it('what may pass is tried six times, and told with the last word of the server', async () => {
    const { store: s3, server: poor } = await open();
    poor.fail({ status: 503, code: 'SlowDown', message: 'reduce your request rate' });
    const error: unknown = await listNames(s3).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'REPOSITORY_OFFLINE', retryable: false, context: { attempts: 6, s3_error: 'SlowDown' } });
    expect(poor.requests.length).toBe(6);
  });

  it('a store that fails all the time is soon left alone', async () => {
    const { store: s3, server: poor } = await open();
    poor.fail({ status: 500, code: 'InternalError' });
    await Promise.all(Array.from({ length: 60 }, () => codeOf(listNames(s3))));
    expect(poor.requests.length).toBeLessThanOrEqual(60 + 100);
  });
});
