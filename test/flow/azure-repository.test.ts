// A repository in an Azure container, as a user walks through it with the launcher; and what he can do without Chainkeep: fetch the folder, qemu-img convert.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import {
  type ContainerClient,
  ContainerSASPermissions,
  generateBlobSASQueryParameters,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { BackupOutcome, RestoreOutcome, SelfTestStep, VerifyOutcome } from '../../src/app-interface.ts';
import { AZURITE_LIMIT_MS, type AzuriteServer, makeContainer, startAzurite } from '../servers/azurite.ts';
import { makeFileSystem, qemuImg, qemuIo, type ScratchHome, sharedScratchHome } from './scratch-home.ts';

const MIB = 1 << 20;
const user: ScratchHome = sharedScratchHome();
const disk = user.path('disk.img');
let server: AzuriteServer;
let container: ContainerClient;
let settings: readonly string[] = [];

beforeAll(async () => {
  server = await startAzurite();
  container = await makeContainer(server, 'backups');
  makeFileSystem(disk, 48 * MIB);
  qemuIo(disk, 'raw', 'write -P 0x41 8M 4M', 'write -P 0x42 30M 70k');
  writeFileSync(user.path('key'), server.key);
  const set = Object.entries({ account_name: server.account, container_name: 'backups', endpoint: server.endpoint });
  // Small parts: images of a few MiB go in several blocks.
  const more = ['--set', 'upload_part_size_mib=5', '--set', 'quota_bytes=1000000000'];
  settings = ['--type', 'azure', ...set.flatMap(([name, value]) => ['--set', `${name}=${value}`]), ...more];
}, AZURITE_LIMIT_MS);
afterAll(() => server?.stop());

const withKey = (...more: readonly string[]): readonly string[] => [
  ...settings,
  '--secret',
  `account_key=file:${user.path('key')}`,
  ...more,
];

/** Everything below the prefix, as the vendor's client fetches it. */
async function download(prefix: string, folder: string): Promise<readonly string[]> {
  const names: string[] = [];
  for await (const { name } of container.listBlobsFlat({ prefix })) {
    const path = join(folder, name);
    mkdirSync(dirname(path), { recursive: true });
    await container.getBlobClient(name).downloadToFile(path);
    names.push(name);
  }
  return names;
}

it('is tried, registered, and takes a chain of backups that read back as they were', async () => {
  const { steps } = await user.json<{ steps: readonly SelfTestStep[] }>('repo', 'test', ...withKey());
  expect(steps.filter(({ ok }) => !ok)).toEqual([]);
  expect((await download('', user.path('after-test'))).length, 'nothing is left of the test').toBe(0);

  await user.json('repo', 'add', 'cloud', ...withKey('--set', 'prefix=site/a'));
  const taken: { outcome: BackupOutcome; copy: string }[] = [];
  const take = async (...options: readonly string[]): Promise<void> => {
    const outcome = await user.backup(disk, 'web', '--repo', 'cloud', ...options);
    taken.push({ outcome, copy: user.save(disk, `copy-${taken.length}.img`) });
  };
  await take('--compression', 'none');
  qemuIo(disk, 'raw', 'write -P 0x51 20M 200k', 'write -z 8M 1M');
  await take();
  qemuIo(disk, 'raw', 'write -P 0x52 40M 4k');
  await take('--type', 'differential');
  expect(taken.map(({ outcome }) => outcome.backup_type)).toEqual(['full', 'incremental', 'differential']);
  expect((await user.list('--repo', 'cloud')).map((backup) => backup.backup_id)).toEqual(
    taken.map(({ outcome }) => outcome.backup_id).reverse(),
  );

  const verified = await user.json<VerifyOutcome>('verify', '--repo', 'cloud');
  expect(verified).toMatchObject({ success: true });
  for (const { outcome, copy } of taken) await user.expectRestores(outcome.backup_id, copy);
  await user.json<RestoreOutcome>('restore', taken[1]?.outcome.backup_id ?? '', user.path('restored.qcow2'), '--format', 'qcow2');
  expect(qemuImg('compare', '-f', 'raw', '-F', 'qcow2', taken[1]?.copy ?? '', user.path('restored.qcow2'))).toContain('identical');

  // Without Chainkeep.
  const names = await download('site/a/', user.path('fetched'));
  const newest = names.find((name) => name.endsWith(`${taken[2]?.outcome.backup_id}.qcow2`)) ?? '';
  qemuImg('convert', '-f', 'qcow2', '-O', 'raw', join(user.path('fetched'), newest), user.path('converted.raw'));
  expect(readFileSync(user.path('converted.raw')).equals(readFileSync(disk))).toBe(true);
  for (const image of names.filter((name) => name.endsWith('.qcow2'))) {
    expect(qemuImg('check', '-f', 'qcow2', join(user.path('fetched'), image))).toContain('No errors');
  }

  // What is deleted is gone there, and the rest is as good as before.
  await user.json('delete', taken[2]?.outcome.backup_id ?? '');
  const left = await download('site/a/', user.path('left'));
  expect(left.some((name) => name.includes(taken[2]?.outcome.backup_id ?? '-'))).toBe(false);
  await user.refused('BACKUP_HAS_DEPENDENTS', 'delete', taken[0]?.outcome.backup_id ?? '');
  expect(await user.json<VerifyOutcome>('verify', '--repo', 'cloud')).toMatchObject({ success: true });

  const storage = await user.run('repo', 'storage', '--refresh', '--json');
  expect(JSON.parse(storage.stdout)).toMatchObject({ repositories: expect.arrayContaining([expect.objectContaining({ name: 'cloud' })]) });
});

it('a lost database is rebuilt from the container', async () => {
  const other = user.otherHome('other');
  await other.json('repo', 'add', 'cloud', ...withKey('--set', 'prefix=site/a', '--take-over'));
  await other.json('repo', 'rescan', 'cloud');
  const backups = await other.list('--repo', 'cloud');
  expect(backups.map((backup) => backup.backup_type).sort()).toEqual(['full', 'incremental']);
  await other.expectRestores(backups.find((backup) => backup.backup_type === 'incremental')?.backup_id ?? '', user.path('copy-1.img'));
});

it('a SAS token and a connection string open it as well; wrong ones say what to check, and never themselves', async () => {
  const expiresOn = new Date(Date.now() + 3_600_000);
  const sign = (permissions: string): string => {
    const credential = new StorageSharedKeyCredential(server.account, server.key);
    const wanted = { containerName: 'backups', permissions: ContainerSASPermissions.parse(permissions), expiresOn };
    return generateBlobSASQueryParameters(wanted, credential).toString();
  };
  const connection = `DefaultEndpointsProtocol=http;AccountName=${server.account};AccountKey=${server.key};BlobEndpoint=${server.endpoint}/${server.account};`;
  const secret = (name: string, value: string): readonly string[] => {
    writeFileSync(user.path(name), value);
    return ['--secret', `${name}=file:${user.path(name)}`];
  };
  for (const [name, value] of [
    ['sas_token', sign('racwdl')],
    ['sas_token', `?${sign('racwdl')}`],
    ['connection_string', connection],
  ] as const) {
    const { steps } = await user.json<{ steps: readonly SelfTestStep[] }>(
      'repo',
      'test',
      ...settings,
      '--set',
      'prefix=new',
      ...secret(name, value),
    );
    expect(steps.filter(({ ok }) => !ok)).toEqual([]);
  }

  const wrongKey = Buffer.alloc(64, 7).toString('base64');
  const refused = await user.refused(
    'REPOSITORY_OFFLINE',
    'repo',
    'add',
    'x',
    ...settings,
    '--set',
    'prefix=new',
    ...secret('account_key', wrongKey),
  );
  expect(refused.advice).toContain('account key');
  const readOnly = sign('rl');
  const written = await user.refused(
    'REPOSITORY_READ_ONLY',
    'repo',
    'add',
    'y',
    ...settings,
    '--set',
    'prefix=new',
    ...secret('sas_token', readOnly),
  );
  expect(written.advice).toContain('permissions');
  for (const answer of [refused, written]) {
    const text = JSON.stringify(answer);
    expect(text).not.toContain(wrongKey);
    expect(text).not.toContain(new URLSearchParams(readOnly).get('sig') ?? '-');
    expect(text).not.toContain('sig=');
  }
  await user.refused(
    'CONFIG_INVALID',
    'repo',
    'add',
    'z',
    ...settings,
    '--set',
    'prefix=new',
    ...secret('connection_string', 'AccountName=somebodyelse;AccountKey=eA=='),
  );
});

it('a container that is not there is offline, and stays so', async () => {
  const missing = settings.map((word) => (word === 'container_name=backups' ? 'container_name=nowhere' : word));
  const refused = await user.refused(
    'REPOSITORY_OFFLINE',
    'repo',
    'add',
    'gone',
    ...missing,
    '--secret',
    `account_key=file:${user.path('key')}`,
  );
  expect(refused.error).toContain('ContainerNotFound');
});
