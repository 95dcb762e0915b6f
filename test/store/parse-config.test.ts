// The settings of every kind of store: what is needed, what is filled in, what is refused and how it is named, and which fields are secret.

import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { Secret } from '../../src/plumbing/secret.ts';
import { parseStoreConfig } from '../../src/store/parse-config.ts';
import { placeOf } from '../../src/store/place-of.ts';
import { loadStoreKind } from '../../src/store/registry.ts';

const S3 = { bucket: 'backups', access_key_id: 'AKIA', secret_access_key: 'hush-hush' };
const AZURE = { account_name: 'account1', container_name: 'backups', account_key: 'hush-hush' };
const CIFS = { server: 'files', share_name: 'backups', username: 'ck', password: 'hush-hush' };
const NFS = { server: 'nas', export_path: '/export' };

const OBJECT_DEFAULTS = { upload_part_size_mib: 16, upload_concurrency: 4, upload_memory_mib: 192, read_cache_mib: 64 };
const OBJECT_NAMES = [...Object.keys(OBJECT_DEFAULTS), 'quota_bytes'];

const SHARE_NAMES = ['mount_point', 'mount_options', 'system_mount', 'time_limit_seconds'];
const CIFS_NAMES = ['server', 'share_name', 'username', 'password', 'domain', ...SHARE_NAMES];
const SHARE_DEFAULTS = { mount_options: '', time_limit_seconds: 60 };

/** The least that each kind needs; what is filled in; which settings there are. */
const KINDS = {
  local: [{ path: '/b' }, {}, ['path']],
  nfs: [NFS, { nfs_version: '4.2', ...SHARE_DEFAULTS }, ['server', 'export_path', 'nfs_version', ...SHARE_NAMES]],
  cifs: [CIFS, SHARE_DEFAULTS, CIFS_NAMES],
  smb: [CIFS, SHARE_DEFAULTS, CIFS_NAMES],
  s3: [
    S3,
    {
      ...{ region: 'us-east-1', prefix: '', path_style: false, use_object_lock: false, object_lock_mode: 'compliance' },
      ...{ server_side_encryption: 'none', checksums: true, max_object_size_gib: 5120, max_parts: 10_000, equal_parts: false },
      ...OBJECT_DEFAULTS,
    },
    [
      ...['region', 'bucket', 'prefix', 'endpoint', 'access_key_id', 'secret_access_key', 'session_token', 'path_style'],
      ...['use_object_lock', 'object_lock_mode', 'server_side_encryption', 'kms_key_id', 'customer_key', 'checksums'],
      ...['max_object_size_gib', 'max_parts', 'equal_parts'],
      ...OBJECT_NAMES,
    ],
  ],
  azure: [
    AZURE,
    { prefix: '', use_immutable_blobs: false, ...OBJECT_DEFAULTS },
    [
      ...['account_name', 'container_name', 'prefix', 'account_key', 'sas_token', 'connection_string', 'endpoint', 'use_immutable_blobs'],
      ...OBJECT_NAMES,
    ],
  ],
} as const;

const SECRETS: Readonly<Record<string, readonly string[]>> = {
  cifs: ['password'],
  smb: ['password'],
  s3: ['secret_access_key', 'session_token', 'customer_key'],
  azure: ['account_key', 'sas_token', 'connection_string'],
};

describe.each(Object.entries(KINDS))('%s', (type, [least, defaults, names]) => {
  const secretNames = SECRETS[type] ?? [];

  it('has exactly these settings, each with a help text, the secret ones marked', async () => {
    const { shape } = await (await loadStoreKind(type)).loadConfigSchema();
    expect(Object.keys(shape).toSorted()).toEqual([...names].toSorted());
    for (const [name, field] of Object.entries(shape)) {
      const { description, secret } = 'meta' in field && typeof field.meta === 'function' ? field.meta() : {};
      expect(description, name).toMatch(/^[A-Z].{10,}\.$/);
      expect(secret === true, name).toBe(secretNames.includes(name));
    }
  });

  it('fills in the rest, and sorts the secrets out', async () => {
    const { config, secrets } = await parseStoreConfig(type, { config: least });
    const clear = Object.entries(least).filter(([name]) => !secretNames.includes(name));
    expect(config).toEqual({ ...Object.fromEntries(clear), ...defaults });
    expect(Object.entries(secrets).map(([name, secret]) => [name, secret.reveal()])).toEqual(
      Object.entries(least).filter(([name]) => secretNames.includes(name)),
    );
  });

  it('names what is missing and what it does not know', async () => {
    for (const missing of Object.keys(least)) {
      if (missing === 'access_key_id') continue; // it goes with the secret key, which is named then
      const rest = Object.fromEntries(Object.entries(least).filter(([name]) => name !== missing));
      await expect(parseStoreConfig(type, { config: rest }), missing).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
        message: expect.stringContaining(`${missing}: `),
      });
    }
    await expect(parseStoreConfig(type, { config: { ...least, colour: 'hush-hush' } })).rejects.toThrow('colour');
  });

  it('takes no secret from settings that others can read, and repeats none', async () => {
    for (const name of secretNames) {
      const error = await parseStoreConfig(type, { config: least, settings: { [name]: 'hush-hush' } }).catch((refused: unknown) => refused);
      expect(error).toMatchObject({
        code: 'CONFIG_INVALID',
        message: expect.stringContaining(name),
        advice: expect.stringContaining('env:VAR'),
      });
      expect(inspect(error, { depth: 9 })).not.toContain('hush');
    }
    const wrong = await parseStoreConfig(type, { config: least, secrets: { server: new Secret('hush-hush') } }).catch(
      (refused: unknown) => refused,
    );
    expect(wrong).toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining('server: no secret') });
    expect(inspect(wrong, { depth: 9 })).not.toContain('hush');
  });
});

describe('a value is refused by name, and not repeated', () => {
  it.each([
    ['nfs', { ...NFS, server: '-o hush' }, 'server'],
    ['nfs', { ...NFS, export_path: 'hush' }, 'export_path'],
    ['nfs', { ...NFS, nfs_version: 'hush' }, 'nfs_version'],
    ['nfs', { ...NFS, mount_options: 'rw hush' }, 'mount_options'],
    ['nfs', { ...NFS, mount_point: 'hush' }, 'mount_point'],
    ['cifs', { ...CIFS, mount_options: 'vers=3.0,password=hush' }, 'mount_options'],
    ['cifs', { ...CIFS, mount_options: 'credentials=/hush' }, 'mount_options'],
    ['cifs', { ...CIFS, share_name: '\\\\hush' }, 'share_name'],
    ['smb', { ...CIFS, password: '' }, 'password'],
    ['smb', { ...CIFS, password: 7 }, 'password'],
    ['smb', { ...CIFS, username: 'two\nlines' }, 'username'],
    ['s3', { ...S3, bucket: 'hush hush' }, 'bucket'],
    ['s3', { ...S3, prefix: '/hush' }, 'prefix'],
    ['s3', { ...S3, prefix: 'a/../hush' }, 'prefix'],
    ['s3', { ...S3, path_style: 'hush' }, 'path_style'],
    ['s3', { ...S3, endpoint: 'https://user:hush@host' }, 'endpoint'],
    ['s3', { ...S3, endpoint: 'ftp://hush' }, 'endpoint'],
    ['s3', { ...S3, endpoint: 'hush' }, 'endpoint'],
    ['azure', { ...AZURE, endpoint: 'https://host/?sig=hush' }, 'endpoint'],
    ['azure', { ...AZURE, sas_token: 'hush' }, 'account_key'],
    ['azure', { ...AZURE, connection_string: 'AccountKey=hush' }, 'account_key'],
    ['azure', { ...AZURE, account_key: undefined }, 'account_key'],
    ['azure', { ...AZURE, quota_bytes: 'hush' }, 'quota_bytes'],
    ['azure', { ...AZURE, account_name: 'Hush-hush' }, 'account_name'],
    ['azure', { ...AZURE, container_name: '-hush' }, 'container_name'],
  ])('%s %j', async (type, config, name) => {
    const error = await parseStoreConfig(type, { config }).catch((refused: unknown) => refused);
    expect(error).toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining(`: ${name}: `) });
    expect(inspect(error, { depth: 9 })).not.toMatch(/hush/i);
  });
});

it('text from a command line becomes what the setting is', async () => {
  const settings = {
    path_style: 'true',
    use_object_lock: 'true',
    'immutable_config.type': 's3_object_lock',
    'immutable_config.min_retention_days': '30',
  };
  const { config, immutable } = await parseStoreConfig('s3', { config: S3, settings });
  expect(config).toMatchObject({ path_style: true, use_object_lock: true });
  expect(immutable).toEqual({
    type: 's3_object_lock',
    min_retention_days: 30,
    grace_period_days: 0,
    apply_to_full_backups: true,
    apply_to_incrementals: true,
    full_after_days: 7,
    full_after_backups: 30,
  });
});

it('locks fit the kind of store and are told to it', async () => {
  const lock = (type: string, other = {}) => ({ immutable_config: { type, min_retention_days: 7, ...other } });
  const refused = [
    ['local', { path: '/b', ...lock('s3_object_lock') }, 'immutable_config.type: only linux_chattr'],
    ['nfs', { ...NFS, ...lock('s3_object_lock') }, 'immutable_config.type: only linux_chattr'],
    ['smb', { ...CIFS, ...lock('azure_worm') }, 'immutable_config.type: only linux_chattr'],
    ['s3', { ...S3, ...lock('s3_object_lock') }, 'use_object_lock: must be true'],
    ['azure', { ...AZURE, ...lock('azure_worm') }, 'use_immutable_blobs: must be true'],
    ['local', { path: '/b', ...lock('linux_chattr', { min_retention_days: 0 }) }, 'immutable_config.min_retention_days'],
    ['local', { path: '/b', ...lock('linux_chattr', { extra: 1 }) }, 'extra'],
    ['local', { path: '/b', immutable_config: 'yes' }, 'immutable_config'],
  ] as const;
  for (const [type, config, message] of refused) {
    await expect(parseStoreConfig(type, { config }), message).rejects.toThrow(message);
  }
  for (const [type, config] of Object.entries({ nfs: NFS, cifs: CIFS, smb: CIFS }))
    expect((await parseStoreConfig(type, { config: { ...config, ...lock('linux_chattr') } })).immutable, type).toMatchObject({
      min_retention_days: 7,
    });
  const { immutable } = await parseStoreConfig('local', { config: { path: '/b', ...lock('linux_chattr', { grace_period_days: 2 }) } });
  expect(immutable).toMatchObject({ type: 'linux_chattr', min_retention_days: 7, grace_period_days: 2 });
});

it('a place is told without secrets', () => {
  expect([
    placeOf('local', { path: '/b' }),
    placeOf('nfs', NFS),
    placeOf('cifs', CIFS),
    placeOf('s3', { ...S3, prefix: 'a/b' }),
    placeOf('s3', { ...S3, endpoint: 'https://minio:9000/' }),
    placeOf('azure', AZURE),
  ]).toEqual(['/b', 'nas:/export', '//files/backups', 's3://backups/a/b', 'https://minio:9000/backups', 'azure://account1/backups']);
});
