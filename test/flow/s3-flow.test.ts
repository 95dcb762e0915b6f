// A user keeps backups in a bucket: everything through the launcher, and the bucket judged by the vendor's client and plain qemu.

import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, inject, it } from 'vitest';
import type { PushOutcome, ServedPush } from '../../src/app-interface.ts';
import { download, makeBucket } from '../servers/s3-bucket.ts';
import { noise, qemuImg, qemuIo, type ScratchHome, scratchHome, tool } from './scratch-home.ts';
import { startServing } from './start-serving.ts';

/** Registers the repository as a user does: settings in the open, the secret from a file. */
async function addRepository(home: ScratchHome, bucket: string, ...more: readonly string[]): Promise<void> {
  const { endpoint, accessKeyId, secretAccessKey } = inject('s3');
  writeFileSync(home.path('secret'), secretAccessKey, { mode: 0o600 });
  const settings = [
    `bucket=${bucket}`,
    `endpoint=${endpoint}`,
    `access_key_id=${accessKeyId}`,
    'path_style=true',
    'upload_part_size_mib=5',
  ];
  const secret = ['--secret', `secret_access_key=file:${home.path('secret')}`];
  await home.json('repo', 'add', 'cloud', '--type', 's3', ...[...settings, ...more].flatMap((setting) => ['--set', setting]), ...secret);
}

it('a disk is backed up to a bucket, changed, backed up, verified, restored and deleted', async () => {
  const home = scratchHome();
  const bucket = await makeBucket(inject('s3'));
  await addRepository(home, bucket, 'prefix=backups/site-1');
  const disk = home.path('disk.raw');
  tool('truncate', '-s', '64M', disk);
  qemuIo(disk, 'raw', 'write -P 0x11 0 4M', 'write -P 0x22 40M 1M');
  writeFileSync(home.path('noise'), noise(14 * 2 ** 20, 5));
  tool('dd', `if=${home.path('noise')}`, `of=${disk}`, 'bs=1M', 'seek=8', 'conv=notrunc', 'status=none');
  const full = (await home.backup(disk, 'vm-1', '--repo', 'cloud')).backup_id;
  const first = home.save(disk, 'first.raw');
  qemuIo(disk, 'raw', 'write -P 0x33 9M 3M', 'write -z 40M 1M');
  const next = (await home.backup(disk, 'vm-1', '--repo', 'cloud')).backup_id;
  const second = home.save(disk, 'second.raw');
  expect((await home.list('--repo', 'cloud')).map((backup) => [backup.backup_id, backup.backup_type])).toEqual(
    expect.arrayContaining([
      [full, 'full'],
      [next, 'incremental'],
    ]),
  );
  expect(await home.verifyAll('cloud')).toMatchObject({ checked: 2, damaged: [] });
  await home.expectRestores(full, first);
  await home.expectRestores(next, second);
  await judgeByPlainTools(home, bucket, next, second);
  await home.json('delete', next);
  await home.json('delete', full);
  const left = [...(await download(inject('s3'), bucket)).keys()];
  expect(left).toEqual(['backups/site-1/chainkeep-repository.json']);
});

/** No lock-in: the folder as any client fetches it is a chain that plain qemu converts. */
async function judgeByPlainTools(home: ScratchHome, bucket: string, backupId: string, copy: string): Promise<void> {
  const folder = home.path('fetched');
  let newest = '';
  for (const [key, bytes] of await download(inject('s3'), bucket)) {
    mkdirSync(dirname(join(folder, key)), { recursive: true });
    writeFileSync(join(folder, key), bytes);
    if (key.endsWith(`${backupId}.qcow2`)) newest = join(folder, key);
  }
  qemuImg('check', newest);
  qemuImg('convert', '-O', 'raw', newest, home.path('by-qemu.raw'));
  expect(qemuImg('compare', '-f', 'raw', '-F', 'raw', home.path('by-qemu.raw'), copy)).toContain('identical');
}

it('what is wrong with the settings is said in one line with advice', async () => {
  const home = scratchHome();
  const bucket = await makeBucket(inject('s3'));
  await expect(addRepository(home, 'no-such-bucket')).rejects.toThrow(/there is no bucket no-such-bucket[\s\S]*make the bucket first/);
  await expect(addRepository(home, bucket, 'access_key_id=somebody')).rejects.toThrow(
    /does not accept the access key[\s\S]*check access_key_id/,
  );
  await expect(addRepository(home, bucket, 'use_object_lock=true')).rejects.toThrow(
    /has no Object Lock[\s\S]*chosen when a bucket is made/,
  );
  await expect(addRepository(home, bucket, 'endpoint=http://127.0.0.1:1')).rejects.toThrow(/cannot be reached[\s\S]*check the endpoint/);
});

it('a disk that is pushed becomes a backup in a bucket', async () => {
  const home = scratchHome();
  await addRepository(home, await makeBucket(inject('s3')));
  const disk = home.path('disk.raw');
  writeFileSync(disk, noise(12 * 2 ** 20 + 512, 3));
  const size = String(12 * 2 ** 20 + 512);
  const serving = await startServing<ServedPush>(home, 'receive', '--vm', 'vm-1', '--size', size, '--repo', 'cloud');
  tool('nbdcopy', disk, serving.disks[0]?.address ?? '');
  const { backups } = await home.json<PushOutcome>('receive', 'complete', serving.job_id, '--change-id', 'c1');
  expect(await serving.command.ended).toMatchObject({ code: 0 });
  qemuIo(disk, 'raw', 'write -P 7 5M 1M');
  const changes = await startServing<ServedPush>(
    home,
    'receive',
    '--vm',
    'vm-1',
    '--size',
    size,
    '--repo',
    'cloud',
    '--since-change-id',
    'c1',
  );
  tool('qemu-io', '-f', 'raw', '-c', 'write -P 7 5M 1M', changes.disks[0]?.address ?? '');
  const next = await home.json<PushOutcome>('receive', 'complete', changes.job_id);
  expect(next.backups[0]).toMatchObject({ backup_type: 'incremental', parent_backup_id: backups[0]?.backup_id });
  await home.expectRestores(next.backups[0]?.backup_id ?? '', disk);
  expect(await home.verifyAll('cloud')).toMatchObject({ checked: 2, damaged: [] });
});
