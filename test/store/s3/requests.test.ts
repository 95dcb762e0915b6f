// What a restore point in a bucket costs: requests until its first byte is read, and how many of them wait for each other.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { openApp } from '../../../src/app.ts';
import type { App } from '../../../src/app-interface.ts';
import { systemClock } from '../../../src/plumbing/clock.ts';
import { silentLogger } from '../../../src/plumbing/logger.ts';
import { Secret } from '../../../src/plumbing/secret.ts';
import { openRepository, type Repository } from '../../../src/repository/repository.ts';
import { openStore } from '../../../src/store/registry.ts';
import { patternBytes } from '../../../src/store/testing/store-probe.ts';
import { FaultProxy } from '../../servers/fault-proxy.ts';
import { makeBucket, storeConfig } from '../../servers/s3-bucket.ts';

const MIB = 2 ** 20;
const CHAIN = 10;
const DISK = { bytes: 24 * MIB, data: 20 * MIB };

let proxy: FaultProxy;
let folder = '';
let bucket = '';
let app: App;
const ids: string[] = [];

beforeAll(async () => {
  proxy = await FaultProxy.open(inject('s3').endpoint);
  folder = mkdtempSync(join(tmpdir(), 'chainkeep-requests-'));
  bucket = await makeBucket(inject('s3'));
  app = await openApp({ home: join(folder, 'home') });
  const { accessKeyId: access_key_id, secretAccessKey } = inject('s3');
  const settings = { bucket, endpoint: proxy.endpoint, access_key_id, path_style: true };
  const secrets = { secret_access_key: new Secret(secretAccessKey) };
  await app.addRepository({ name: 'bucket', type: 's3', take_over: false, settings, secrets });
  const disk = join(folder, 'disk.raw');
  const bytes = Buffer.concat([patternBytes(DISK.data), Buffer.alloc(DISK.bytes - DISK.data)]);
  for (let index = 0; index < CHAIN; index += 1) {
    patternBytes(MIB, index + 7).copy(bytes, (2 * index + 1) * MIB - 65_536);
    writeFileSync(disk, bytes);
    const input = { vm: 'vm', disks: [{ disk_id: 0, source: disk }], repository: 'bucket', type: 'auto', compression: 'none' } as const;
    const [outcome] = await app.backup({ ...input, format: 'raw', with_backing: false, dry_run: false }, {});
    ids.push(outcome?.backup_id ?? '');
  }
});

afterAll(async () => {
  await app.close();
  await proxy.close();
  rmSync(folder, { recursive: true });
});

async function withRepository(use: (repository: Repository) => Promise<void>): Promise<void> {
  const { repository_id: repositoryId } = await app.showRepository('bucket');
  const store = await openStore('s3', storeConfig({ ...inject('s3'), endpoint: proxy.endpoint }, bucket), { create: false });
  const repository = await openRepository({ store, clock: systemClock, logger: silentLogger, repositoryId, installationId: 'other' });
  try {
    await use(repository);
  } finally {
    await repository.close();
  }
}

it.each([
  ['whose chain the catalog knows', true],
  ['found by a listing', false],
])('a restore point %s: opened and its first byte read with few requests, few in sequence', async (_what, hinted) => {
  const [full] = await app.listBackups({ vm: 'vm' });
  const place = { vmContextId: full?.vm_context_id ?? '', diskId: 0 };
  await withRepository(async (repository) => {
    proxy.begin();
    proxy.setDelay(200);
    const opened = await repository.openBackup(place, ids.at(-1) ?? '', hinted ? ids : undefined);
    const byte = Buffer.alloc(1);
    await opened.reader.read(byte, 0);
    proxy.setDelay(0);
    const { depth, requests } = proxy;
    expect(byte[0]).toBe(readFileSync(join(folder, 'disk.raw'))[0]);
    expect(requests.length, requests.join('\n')).toBeLessThanOrEqual(3 * CHAIN + 1);
    expect(depth, requests.join('\n')).toBeLessThanOrEqual(4);
    await opened.close();
  });
});

it('a quick verify is one listing and one small read for each backup', async () => {
  proxy.begin();
  const { checked, damaged } = await app.verify({ repository: 'bucket', quick: true }, {});
  expect({ checked, damaged }).toEqual({ checked: CHAIN, damaged: [] });
  // And the marker of the repository, when it is opened.
  expect(proxy.requests.length, proxy.requests.join('\n')).toBeLessThanOrEqual(CHAIN + 2);
});

it('what a quick verify of a bucket can see, it names', async () => {
  const store = await openStore('s3', storeConfig(inject('s3'), bucket), { create: false });
  const names: string[] = [];
  for await (const { name } of store.list('vms/')) names.push(name);
  const image = names.find((name) => name.endsWith(`${ids[3]}.qcow2`)) ?? '';
  const source = await store.open(image);
  const bytes = Buffer.alloc(source.size);
  await source.read(bytes, 0);
  await source.close();
  await store.delete(image);
  const { damaged } = await app.verify({ repository: 'bucket', quick: true }, {});
  expect(damaged.map((damage) => damage.backup_id)).toEqual([ids[3]]);
  expect(damaged[0]?.affects).toEqual(ids.slice(3));
  const sink = await store.put(image);
  await sink.append([bytes]);
  await sink.finish(Buffer.alloc(0));
  expect((await app.verify({ repository: 'bucket', quick: false }, {})).damaged).toEqual([]);
  await store.close();
});
