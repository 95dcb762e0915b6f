// An immutable repository in Azure through the launcher, over the stub that keeps locks as Azure's documents say: what a thief of the key can do, and
// what gives every backup back all the same. Images are judged by plain 'qemu-img'.

import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { BackupOutcome, VerifyOutcome } from '../../src/app-interface.ts';
import { type ImmutabilityStub, startImmutabilityStub } from '../servers/azure-immutability-stub.ts';
import { AZURITE_LIMIT_MS, type AzuriteServer, containerClient, makeContainer, startAzurite } from '../servers/azurite.ts';
import { noise, qemuImg, qemuIo, type ScratchHome, sharedScratchHome } from './scratch-home.ts';

const MIB = 1 << 20;
const user: ScratchHome = sharedScratchHome();
const disk = user.path('disk.img');
let server: AzuriteServer;
let stub: ImmutabilityStub;

beforeAll(async () => {
  server = await startAzurite();
  stub = await startImmutabilityStub(server);
  await makeContainer(server, 'vault');
  writeFileSync(user.path('key'), server.key);
  writeFileSync(disk, Buffer.concat([noise(3 * MIB, 1), Buffer.alloc(5 * MIB)]));
}, AZURITE_LIMIT_MS);
afterAll(async () => {
  await stub?.stop();
  await server?.stop();
});

it('keeps what it locked from its own commands and from whoever has the key of the account', async () => {
  const settings = {
    account_name: server.account,
    container_name: 'vault',
    endpoint: stub.endpoint,
    use_immutable_blobs: 'true',
    'immutable_config.type': 'azure_worm',
    'immutable_config.min_retention_days': '3',
  };
  const set = Object.entries(settings).flatMap(([name, value]) => ['--set', `${name}=${value}`]);
  await user.json('repo', 'add', 'vault', '--type', 'azure', ...set, '--secret', `account_key=file:${user.path('key')}`);
  const taken: { outcome: BackupOutcome; copy: string }[] = [];
  for (const name of ['full', 'incremental']) {
    taken.push({ outcome: await user.backup(disk, 'web', '--repo', 'vault'), copy: user.save(disk, `${name}.img`) });
    qemuIo(disk, 'raw', 'write -P 0x51 1M 200k');
  }
  const newest = taken[1]?.outcome.backup_id ?? '';

  const refused = await user.refused('IMMUTABLE_RETENTION_ACTIVE', 'delete', newest);
  expect(Date.parse(String(refused.retention_expires_at))).toBeGreaterThan(Date.now() + 2.9 * 24 * 3_600_000);

  // The thief deletes and overwrites all that he is let to.
  const thief = containerClient({ endpoint: stub.endpoint, account: server.account, key: server.key }, 'vault');
  const names: string[] = [];
  for await (const { name } of thief.listBlobsFlat()) names.push(name);
  const versions: string[] = [];
  for await (const { name, versionId = '' } of thief.listBlobsFlat({ includeVersions: true, prefix: 'vms/' })) {
    if (/\.(qcow2|json|digests)$/.test(name)) versions.push(`${name}?${versionId}`);
  }
  expect(versions.length).toBeGreaterThanOrEqual(6);
  for (const name of names.filter((name) => name.startsWith('vms/'))) {
    await thief.getBlockBlobClient(name).upload('junk', 4);
    await thief.deleteBlob(name);
  }
  const outcomes = await Promise.allSettled(
    versions.map((version) => {
      const [name = '', id = ''] = version.split('?');
      return thief.getBlobClient(name).withVersion(id).delete();
    }),
  );
  expect(new Set(outcomes.map(({ status }) => status))).toEqual(new Set(['rejected']));

  expect(await user.json<VerifyOutcome>('verify', '--repo', 'vault')).toMatchObject({ success: true, damaged: [] });
  for (const { outcome, copy } of taken) await user.expectRestores(outcome.backup_id, copy);
  await user.json('restore', newest, user.path('restored.qcow2'), '--format', 'qcow2');
  expect(qemuImg('compare', '-f', 'raw', '-F', 'qcow2', taken[1]?.copy ?? '', user.path('restored.qcow2'))).toContain('identical');

  await user.json('hold', 'add', newest, '--reason', 'court order 17');
  expect((await user.refused('HOLD_ACTIVE', 'delete', newest)).error).toContain('court order 17');
  const held: string[] = [];
  for await (const { name, properties } of thief.listBlobsFlat({ includeVersions: true, includeLegalHold: true, prefix: 'vms/' })) {
    if (properties.legalHold) held.push(name.slice(name.lastIndexOf('/') + 1));
  }
  expect(held).toEqual(expect.arrayContaining([`${newest}.1.digests`, `${newest}.json`, `${newest}.qcow2`]));
  expect(await user.backup(disk, 'web', '--repo', 'vault')).toMatchObject({ backup_type: 'incremental' });
});
