// What backups in a container cost in requests and in memory, and that a quota that is used up holds up nothing small.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openApp } from '../../../src/app.ts';
import type { App } from '../../../src/app-interface.ts';
import { Secret } from '../../../src/plumbing/secret.ts';
import { writeBlob } from '../../../src/repository/blobs.ts';
import { planUpload } from '../../../src/store/part-plan.ts';
import { codeOf, patternBytes } from '../../../src/store/testing/store-probe.ts';
import { AZURE_ERRORS, FaultProxy } from '../../servers/fault-proxy.ts';
import { azurePlace, azuriteForFile } from './azure-place.ts';

const MIB = 2 ** 20;
const CHAIN = 3;
const server = azuriteForFile();
let proxy: FaultProxy;
let folder = '';
let app: App;

beforeAll(async () => {
  proxy = await FaultProxy.open(server().endpoint, AZURE_ERRORS);
  folder = mkdtempSync(join(tmpdir(), 'chainkeep-requests-'));
  app = await openApp({ home: join(folder, 'home') });
  const { config, key } = await azurePlace(server(), proxy.endpoint);
  await app.addRepository({
    name: 'container',
    type: 'azure',
    take_over: false,
    settings: config,
    secrets: { account_key: new Secret(key) },
  });
  const disk = join(folder, 'disk.raw');
  for (let index = 0; index < CHAIN; index += 1) {
    writeFileSync(disk, Buffer.concat([patternBytes(MIB, index), patternBytes(3 * MIB)]));
    const input = { vm: 'vm', disks: [{ disk_id: 0, source: disk }], repository: 'container', type: 'auto', compression: 'none' } as const;
    await app.backup({ ...input, format: 'raw', with_backing: false, dry_run: false }, {});
  }
});
afterAll(async () => {
  await app?.close();
  await proxy?.close();
  rmSync(folder, { recursive: true });
});

it('a quick verify is one listing and one small read for each backup', async () => {
  proxy.begin();
  const { checked, damaged } = await app.verify({ repository: 'container', quick: true }, {});
  expect({ checked, damaged }).toEqual({ checked: CHAIN, damaged: [] });
  // And the marker of the repository, when it is opened.
  expect(proxy.requests.length, proxy.requests.join('\n')).toBeLessThanOrEqual(CHAIN + 2);
});

it('the memory that a very large image takes for its parts is known before', async () => {
  const store = await (await azurePlace(server())).open({ upload_memory_mib: 192 });
  expect(planUpload(store.capabilities, { mostBytes: 50 * 2 ** 30 }, 'a')?.memory).toBeLessThanOrEqual(192 * MIB);
  expect(planUpload(store.capabilities, { mostBytes: 5 * 2 ** 40 }, 'a')?.memory).toBeGreaterThan(192 * MIB);
  await store.close();
});

it('a quota that is used up refuses what is large at once, and not the small files that end a backup or make room', async () => {
  const store = await (await azurePlace(server())).open({ quota_bytes: 10, upload_part_size_mib: 5 });
  await writeBlob(store, 'image', patternBytes(1000), {});
  expect((await store.capacity())?.availableBytes).toBe(0);
  await writeBlob(store, 'sidecar', patternBytes(1000), { ifAbsent: true });
  expect(await codeOf(store.put('large', { expectedSize: 5 * MIB + 1 }))).toBe('INSUFFICIENT_STORAGE');
  await store.close();
});
