// Secrets in the database: only under the right key, only in their own row, and never lost by a rotation, whenever it is killed.

import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { listSecrets } from '../../src/catalog/secrets.ts';
import { makeSecretKey, openSecret, parseSecretKey, sealSecret } from '../../src/control/secret-box.ts';
import { type KeyStore, openKeyStore } from '../../src/control/secret-keys.ts';
import { readSecrets, rotateKeys, storeSecrets } from '../../src/control/secrets.ts';
import { Secret } from '../../src/plumbing/secret.ts';
import { addRepository, type DatabasePlace, openScratch, scratchFolder } from '../catalog/scratch-catalog.ts';

const WORKER = fileURLToPath(new URL('./rotate-process.ts', import.meta.url));
const KEEP = { forgetUnreadable: false };

interface Scene {
  readonly catalog: Catalog;
  readonly place: DatabasePlace;
  readonly home: string;
  readonly keys: KeyStore;
  readonly keyFile: string;
}

/** Two repositories: repo-1 with a password and a token, repo-2 with a password. */
async function openScene(): Promise<Scene> {
  const { catalog, place } = await openScratch();
  const home = await scratchFolder();
  const keys = openKeyStore({ home, installationId: 'test' });
  await addRepository(catalog);
  await addRepository(catalog, 'repo-2');
  await store(catalog, keys, 'repo-1', { password: 'first', token: 'sécond 🔑' });
  await store(catalog, keys, 'repo-2', { password: 'third' });
  return { catalog, place, home, keys, keyFile: join(home, 'secrets-test.key') };
}

function store(catalog: Catalog, keys: KeyStore, repository: string, values: Readonly<Record<string, string>>) {
  const secrets = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, new Secret(value)]));
  return catalog.transaction((unit) => storeSecrets(unit, keys, repository, secrets));
}

async function readAll(catalog: Catalog, keys: KeyStore): Promise<readonly (readonly [string, string])[]> {
  const both = [await readSecrets(catalog, async () => keys, 'repo-1'), await readSecrets(catalog, async () => keys, 'repo-2')];
  return both.flatMap((secrets) => [...secrets].map(([name, secret]) => [name, secret.reveal()] as const)).toSorted();
}

const ALL = [
  ['password', 'first'],
  ['password', 'third'],
  ['token', 'sécond 🔑'],
].toSorted();

function fixedKeys(...texts: readonly string[]): KeyStore {
  return openKeyStore({ home: '/does/not/exist', installationId: 'test', key: new Secret(texts.join(' ')) });
}

function work({ place, home }: Scene, ...what: readonly string[]) {
  const child = spawn(process.execPath, [WORKER, place.url, home, ...what], {
    env: { ...process.env, PASSWORD: place.password },
    stdio: ['ignore', 'inherit', 'inherit'],
    timeout: 60_000,
  });
  return once(child, 'close').then(([code, signal]) => signal ?? code);
}

describe('a sealed secret', () => {
  const key = makeSecretKey();
  const place = { id: 'a', repository_id: 'r', name: 'password' };

  it('opens in its own place, and is another text each time', () => {
    const [one, two] = [sealSecret(key, place, new Secret('x')), sealSecret(key, place, new Secret('x'))];
    expect(one).not.toBe(two);
    expect(openSecret(key, place, one).reveal()).toBe('x');
    expect(openSecret(key, place, sealSecret(key, place, new Secret(''))).reveal()).toBe('');
  });

  it.each([{ id: 'b' }, { repository_id: 's' }, { name: 'token' }])('does not open in another row: %j', (other) => {
    expect(() => openSecret(key, { ...place, ...other }, sealSecret(key, place, new Secret('x')))).toThrow(
      expect.objectContaining({ code: 'SECRET_INVALID', advice: expect.stringContaining('repo update') }),
    );
  });

  it('does not open under another key, cut, or with any byte changed', () => {
    const sealed = sealSecret(key, place, new Secret('hush-hush'));
    const bytes = Buffer.from(sealed.slice(3), 'base64');
    const wrong = [sealed.slice(3), 'v2:'.concat(sealed.slice(3)), 'v1:', '', 'v1:AAAA'];
    for (let at = 0; at < bytes.length; at += 1) {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 1;
      wrong.push(`v1:${changed.toString('base64')}`);
    }
    for (let length = 0; length < bytes.length; length += 1) wrong.push(`v1:${bytes.subarray(0, length).toString('base64')}`);
    for (const text of wrong) expect(() => openSecret(key, place, text), text).toThrow(expect.objectContaining({ code: 'SECRET_INVALID' }));
    expect(() => openSecret(makeSecretKey(), place, sealed)).toThrow(expect.objectContaining({ code: 'SECRET_INVALID' }));
  });

  it('has a key of 32 bytes in hex or base64, and nothing less', () => {
    const bytes = randomBytes(32);
    expect(parseSecretKey(bytes.toString('hex'))?.id).toBe(parseSecretKey(bytes.toString('base64'))?.id);
    for (const text of [
      '',
      'password',
      bytes.toString('hex').slice(1),
      randomBytes(31).toString('base64'),
      randomBytes(33).toString('base64'),
    ])
      expect(parseSecretKey(text), text).toBeUndefined();
  });
});

describe('the database', () => {
  it('holds ciphertext only; two secrets that were swapped do not open', async () => {
    const { catalog, keys } = await openScene();
    expect(await readAll(catalog, keys)).toEqual(ALL);
    const rows = await listSecrets(catalog);
    expect(inspect(rows)).not.toMatch(/first|sécond|third/);
    const [one, two] = rows;
    await catalog.run({ sql: 'update secrets set sealed = ? where id = ?', parameters: [one?.sealed ?? '', two?.id ?? ''] });
    await expect(readAll(catalog, keys)).rejects.toMatchObject({ code: 'SECRET_INVALID' });
  });

  it('replaces a secret that is given again, and drops those of a repository that is removed', async () => {
    const { catalog, keys } = await openScene();
    await store(catalog, keys, 'repo-1', { password: 'newer' });
    expect(await readAll(catalog, keys)).toContainEqual(['password', 'newer']);
    expect(await listSecrets(catalog)).toHaveLength(3);
    await catalog.run({ sql: "delete from backup_repositories where id = 'repo-1'", parameters: [] });
    expect((await listSecrets(catalog)).map((row) => row.repository_id)).toEqual(['repo-2']);
  });
});

describe('the key', () => {
  it('is made at first need, for its user alone, and stays', async () => {
    const { catalog, keys, keyFile, home } = await openScene();
    expect(statSync(keyFile).mode & 0o777).toBe(0o600);
    expect(readdirSync(home)).toEqual(['secrets-test.key']);
    const before = readFileSync(keyFile, 'utf8');
    await store(catalog, keys, 'repo-2', { password: 'again' });
    expect(readFileSync(keyFile, 'utf8')).toBe(before);
  });

  it.each([0o640, 0o604, 0o666])('is refused when others can read it: %o', async (mode) => {
    const { catalog, keys, keyFile } = await openScene();
    chmodSync(keyFile, mode);
    await expect(readAll(catalog, keys)).rejects.toMatchObject({ code: 'CONFIG_INVALID', advice: expect.stringContaining('chmod 600') });
  });

  it.each(['', '# nothing\n', 'hunter2', `${'ab'.repeat(32)}\nhunter2`])(
    'is refused when it is none, and not shown: %j',
    async (content) => {
      const { catalog, keys, keyFile } = await openScene();
      writeFileSync(keyFile, content);
      const error = await readAll(catalog, keys).catch((refused: unknown) => refused);
      expect(error).toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining(keyFile) });
      expect(inspect(error, { depth: 9 })).not.toMatch(/hunter2|abab/);
    },
  );

  it('that is lost or another one gives one clear error, and no new one is made in its place', async () => {
    const { catalog, keys, keyFile, home } = await openScene();
    renameSync(keyFile, `${keyFile}.kept`);
    const lost = {
      code: 'SECRET_KEY_MISSING',
      message: expect.stringContaining(keyFile),
      advice: expect.stringContaining('--forget-unreadable'),
    };
    await expect(readAll(catalog, keys)).rejects.toMatchObject(lost);
    await expect(store(catalog, keys, 'repo-2', { token: 'x' })).rejects.toMatchObject(lost);
    await expect(rotateKeys(catalog, keys, KEEP)).rejects.toMatchObject(lost);
    expect(existsSync(keyFile)).toBe(false);
    const other = fixedKeys(randomBytes(32).toString('hex'));
    await expect(readAll(catalog, other)).rejects.toMatchObject({ ...lost, message: expect.stringContaining('CHAINKEEP_KEY') });
    await expect(store(catalog, other, 'repo-2', { token: 'x' })).rejects.toMatchObject({ code: 'SECRET_KEY_MISSING' });
    renameSync(`${keyFile}.kept`, keyFile);
    expect(await readAll(catalog, keys)).toEqual(ALL);
    expect(readdirSync(home)).toEqual(['secrets-test.key']);
  });

  it('that is lost for good: the secrets are given again', async () => {
    const { catalog, keys, keyFile } = await openScene();
    rmSync(keyFile);
    expect(await rotateKeys(catalog, keys, { forgetUnreadable: true })).toMatchObject({ secrets: 0, forgotten: 3 });
    expect(await readAll(catalog, keys)).toEqual([]);
    await store(catalog, keys, 'repo-1', { password: 'again' });
    expect(await readAll(catalog, keys)).toEqual([['password', 'again']]);
  });

  it('comes from the environment, a file, or systemd, in this order', async () => {
    const home = await scratchFolder();
    const [one, two, three] = [1, 2, 3].map(() => randomBytes(32).toString('hex'));
    writeFileSync(join(home, 'file'), `${two}\n`);
    writeFileSync(join(home, 'chainkeep-key'), `${three}\n`);
    const id = (text = '') => parseSecretKey(text)?.id;
    const idOf = (from: object) =>
      openKeyStore({ home, installationId: 'test', ...from })
        .load()
        .at(-1)?.id;
    const all = { key: new Secret(one ?? ''), keyFile: join(home, 'file'), credentialsDirectory: home };
    expect(idOf(all)).toBe(id(one));
    expect(idOf({ keyFile: all.keyFile, credentialsDirectory: home })).toBe(id(two));
    expect(idOf({ credentialsDirectory: home })).toBe(id(three));
    expect(idOf({ credentialsDirectory: '/does/not/exist' })).toBeUndefined();
    expect(() => openKeyStore({ home, installationId: 'test', keyFile: join(home, 'none') }).load()).toThrow(
      expect.objectContaining({ code: 'CONFIG_INVALID' }),
    );
  });
});

describe('a rotation', () => {
  it('encrypts all with a new key, and the old one opens nothing any more', async () => {
    const { catalog, keys, keyFile } = await openScene();
    const [old] = keys.load();
    const before = await listSecrets(catalog);
    const { secrets, keyId } = await rotateKeys(catalog, keys, KEEP);
    expect(secrets).toBe(3);
    expect(keys.load().map((key) => key.id)).toEqual([keyId]);
    expect(keyId).not.toBe(old?.id);
    const after = await listSecrets(catalog);
    expect(after.map((row) => [row.id, row.key_id])).toEqual(before.map((row) => [row.id, keyId]));
    expect(await readAll(catalog, keys)).toEqual(ALL);
    expect(readFileSync(keyFile, 'utf8')).not.toContain(old?.hex.reveal());
  });

  it('of a key from outside needs the new one beside the old one', async () => {
    const { catalog, keys } = await openScene();
    const old = keys.load()[0]?.hex.reveal() ?? '';
    const fresh = randomBytes(32).toString('hex');
    await expect(rotateKeys(catalog, fixedKeys(old), KEEP)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('CHAINKEEP_KEY'),
    });
    expect(await rotateKeys(catalog, fixedKeys(old, fresh), KEEP)).toMatchObject({ secrets: 3, fixed: true });
    expect(await readAll(catalog, fixedKeys(fresh))).toEqual(ALL);
    await expect(readAll(catalog, fixedKeys(old))).rejects.toMatchObject({ code: 'SECRET_KEY_MISSING' });
  });

  it('that meets a damaged secret changes nothing', async () => {
    const { catalog, keys } = await openScene();
    const rows = await listSecrets(catalog);
    await catalog.run({ sql: 'update secrets set sealed = ? where id = ?', parameters: ['v1:AAAA', rows[1]?.id ?? ''] });
    const before = await listSecrets(catalog);
    await expect(rotateKeys(catalog, keys, KEEP)).rejects.toMatchObject({ code: 'SECRET_INVALID' });
    expect(await listSecrets(catalog)).toEqual(before);
  });

  it('is killed at every step: all secrets can be read, and the next one finishes', async () => {
    const scene = await openScene();
    let kills = 0;
    for (let step = 1; (await work(scene, 'rotate', String(step))) === 'SIGKILL'; step += 1) {
      kills = step;
      expect(await readAll(scene.catalog, scene.keys), `killed at ${step}`).toEqual(ALL);
    }
    expect(kills).toBeGreaterThanOrEqual(11);
    expect(await readAll(scene.catalog, scene.keys)).toEqual(ALL);
    expect(scene.keys.load()).toHaveLength(1);
    expect(readdirSync(scene.home)).toEqual(['secrets-test.key']);
  });

  it('at once with others, and with secrets that are stored meanwhile, loses none', async () => {
    const scene = await openScene();
    const rotations = async () => [await work(scene, 'rotate'), await work(scene, 'rotate')];
    const ends = await Promise.all([rotations(), rotations(), work(scene, 'store', '60')]);
    expect(ends.flat()).toEqual([0, 0, 0, 0, 0]);
    expect(await readAll(scene.catalog, scene.keys)).toEqual(
      [
        ['password', 'third'],
        ['password', 'value 59'],
        ['token', 'sécond 🔑'],
      ].toSorted(),
    );
  });
});
