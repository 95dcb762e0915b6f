// An immutable repository in a bucket with Object Lock, through the launcher, on a server that enforces it: what the bucket says of every object, what a
// thief of the key can do, and what gives every backup back all the same.

import { writeFileSync } from 'node:fs';
import {
  DeleteObjectCommand,
  GetObjectLegalHoldCommand,
  GetObjectRetentionCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  PutObjectCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import { expect, inject, it, onTestFinished } from 'vitest';
import type { BackupDetails, VerifyOutcome } from '../../src/app-interface.ts';
import { makeBucket, vendorClient } from '../servers/s3-bucket.ts';
import { noise, qemuIo, sharedScratchHome } from './scratch-home.ts';

const MIB = 1 << 20;
const DAY_MS = 24 * 3_600_000;
const user = sharedScratchHome();

async function keysOf(vendor: S3Client, Bucket: string): Promise<readonly string[]> {
  const { Contents = [] } = await vendor.send(new ListObjectsV2Command({ Bucket, Prefix: 'vms/' }));
  return Contents.map(({ Key = '' }) => Key);
}

async function lockedUntil(vendor: S3Client, Bucket: string, Key: string): Promise<number> {
  const { Retention } = await vendor.send(new GetObjectRetentionCommand({ Bucket, Key }));
  expect(Retention?.Mode, Key).toBe('COMPLIANCE');
  return Retention?.RetainUntilDate?.getTime() ?? 0;
}

it('keeps what it locked from its own commands and from whoever has the key', async () => {
  const bucket = await makeBucket(inject('s3'), true);
  const vendor = vendorClient(inject('s3'));
  onTestFinished(() => vendor.destroy());
  const { endpoint, accessKeyId, secretAccessKey } = inject('s3');
  writeFileSync(user.path('secret'), secretAccessKey, { mode: 0o600 });
  const settings = {
    bucket,
    endpoint,
    access_key_id: accessKeyId,
    path_style: 'true',
    use_object_lock: 'true',
    'immutable_config.type': 's3_object_lock',
    'immutable_config.min_retention_days': '3',
  };
  const set = Object.entries(settings).flatMap(([name, value]) => ['--set', `${name}=${value}`]);
  await user.json('repo', 'add', 'vault', '--type', 's3', ...set, '--secret', `secret_access_key=file:${user.path('secret')}`);
  const disk = user.path('disk.img');
  writeFileSync(disk, Buffer.concat([noise(3 * MIB, 1), Buffer.alloc(5 * MIB)]));
  const taken: { id: string; copy: string }[] = [];
  for (const name of ['full', 'incremental']) {
    taken.push({ id: (await user.backup(disk, 'web', '--repo', 'vault')).backup_id, copy: user.save(disk, `${name}.img`) });
    qemuIo(disk, 'raw', 'write -P 0x51 1M 200k');
  }
  const [full, newest] = taken;
  if (!full || !newest) throw new Error('two backups were made');

  // Every object of both is locked in the bucket, the parent at least as long, and the program tells the same date.
  const keys = await keysOf(vendor, bucket);
  const until = async ({ id }: { readonly id: string }): Promise<number> => {
    const own = keys.filter((key) => key.includes(`/${id}.`));
    expect(own.length).toBeGreaterThanOrEqual(4);
    return Math.min(...(await Promise.all(own.map((key) => lockedUntil(vendor, bucket, key)))));
  };
  const dates = { full: await until(full), newest: await until(newest) };
  expect(dates.newest).toBeGreaterThan(Date.now() + 2.9 * DAY_MS);
  expect(dates.full).toBeGreaterThanOrEqual(dates.newest);
  const details = await user.json<BackupDetails>('show', newest.id);
  expect(Date.parse(details.protected_until ?? '')).toBeLessThanOrEqual(dates.newest);
  await user.refused('IMMUTABLE_RETENTION_ACTIVE', 'delete', newest.id);

  // The thief overwrites and deletes all that he is let to.
  for (const Key of keys) {
    await vendor.send(new PutObjectCommand({ Bucket: bucket, Key, Body: 'junk' }));
    await vendor.send(new DeleteObjectCommand({ Bucket: bucket, Key }));
  }
  const { Versions = [] } = await vendor.send(new ListObjectVersionsCommand({ Bucket: bucket, Prefix: 'vms/' }));
  let gone = 0;
  for (const { Key, VersionId } of Versions)
    await vendor.send(new DeleteObjectCommand({ Bucket: bucket, Key, VersionId, BypassGovernanceRetention: true })).then(
      () => (gone += 1),
      () => undefined,
    );
  expect([Versions.length, gone]).toEqual([2 * keys.length, keys.length]); // his own junk, and nothing else
  expect(await user.json<VerifyOutcome>('verify', '--repo', 'vault')).toMatchObject({ checked: 2, damaged: [] });
  for (const { id, copy } of taken) await user.expectRestores(id, copy);

  // A hold is a legal hold of the bucket, and goes when it is lifted.
  const { Versions: kept = [] } = await vendor.send(new ListObjectVersionsCommand({ Bucket: bucket, Prefix: 'vms/' }));
  const own = kept.filter(({ Key = '' }) => Key.includes(`/${full.id}.`) && /\.(qcow2|digests|json)$/.test(Key));
  const holdOf = async (): Promise<readonly (string | undefined)[]> => {
    const ask = ({ Key, VersionId }: (typeof own)[number]) => new GetObjectLegalHoldCommand({ Bucket: bucket, Key, VersionId });
    return Promise.all(own.map(async (version) => (await vendor.send(ask(version))).LegalHold?.Status));
  };
  const { hold_id: hold } = await user.json<{ readonly hold_id: string }>('hold', 'add', full.id, '--reason', 'a claim');
  expect(await holdOf()).toEqual(['ON', 'ON', 'ON']);
  await user.refused('HOLD_ACTIVE', 'delete', full.id);
  await user.json('hold', 'lift', hold);
  expect((await holdOf()).filter((status) => status === 'ON')).toEqual([]);
});
