// The secrets of repositories: sealed on their way into the database, opened only for the store that needs them, re-encrypted by a rotation.
// It must not log, and nothing here answers a secret but as a Secret.

import type { Catalog } from '../catalog/catalog.ts';
import { listSecrets, putSecret, removeSecrets, resealSecret, type SealedSecret } from '../catalog/secrets.ts';
import { isoTime, newId } from '../plumbing/clock.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import type { Secret } from '../plumbing/secret.ts';
import { makeSecretKey, openSecret, type SecretKey, sealSecret } from './secret-box.ts';
import type { KeyStore } from './secret-keys.ts';
import type { SecretReference } from './secret-reference.ts';

export interface Rotation {
  /** Secrets that were encrypted anew. */
  readonly secrets: number;
  /** Secrets that were removed because their key is lost. */
  readonly forgotten: number;
  readonly keyId: string;
  readonly keyPlace: string;
  /** The keys come from outside: the old one has to be taken away there. */
  readonly fixed: boolean;
}

/** Lies inside a transaction `unit`, whose lock also keeps a rotation away from the keys. Answers the references, setting by setting. */
export async function storeSecrets(
  unit: Catalog,
  keys: KeyStore,
  repositoryId: string,
  secrets: Readonly<Record<string, Secret>>,
): Promise<Record<string, SecretReference>> {
  const names = Object.keys(secrets);
  const others = (await listSecrets(unit)).filter((row) => row.repository_id !== repositoryId || !names.includes(row.name));
  const key = sealingKey(keys, others);
  const references: Record<string, SecretReference> = {};
  for (const [name, secret] of Object.entries(secrets)) {
    const place = { id: newId(unit.clock), repository_id: repositoryId, name };
    const sealed = sealSecret(key, place, secret);
    await putSecret(unit, { ...place, key_id: key.id, sealed, created_at: isoTime(unit.clock.now()) });
    references[name] = { secret_id: place.id };
  }
  return references;
}

/** The secrets of one repository by their settings. Throws SECRET_KEY_MISSING, SECRET_INVALID. */
export async function readSecrets(
  catalog: Catalog,
  openKeys: () => Promise<KeyStore>,
  repositoryId: string,
  options: { readonly except?: readonly string[] } = {},
): Promise<ReadonlyMap<string, Secret>> {
  const rows = (await listSecrets(catalog, repositoryId)).filter((row) => !options.except?.includes(row.name));
  if (rows.length === 0) return new Map();
  const keys = await openKeys();
  const ring = keys.load();
  return new Map(rows.map((row) => [row.name, openSecret(keyOf(ring, row, keys), row, row.sealed)]));
}

/** Inside a transaction; of settings that have none, nothing is removed. */
export async function dropSecrets(unit: Catalog, repositoryId: string, names: readonly string[]): Promise<void> {
  const rows = (await listSecrets(unit, repositoryId)).filter((row) => names.includes(row.name));
  await removeSecrets(
    unit,
    rows.map((row) => row.id),
  );
}

/**
 * Encrypts every secret with a new key, or, where the keys come from outside, with the newest of them. A kill at any moment loses nothing: the new
 * key is on the disk before a row needs it, all rows change in one transaction, and the old key goes only after that. Throws SECRET_KEY_MISSING when
 * a secret cannot be opened, unless those are to be forgotten.
 */
export async function rotateKeys(catalog: Catalog, keys: KeyStore, options: { readonly forgetUnreadable: boolean }): Promise<Rotation> {
  if (keys.fixed) requireSecondKey(keys);
  const rotation = await catalog.transaction(async (unit) => {
    const ring = keys.load();
    const rows = await listSecrets(unit);
    const lost = options.forgetUnreadable ? rows.filter((row) => !ring.some((key) => key.id === row.key_id)) : [];
    const opened = rows
      .filter((row) => !lost.includes(row))
      .map((row) => ({ row, secret: openSecret(keyOf(ring, row, keys), row, row.sealed) }));
    const key = keys.fixed ? newest(ring, keys) : makeSecretKey();
    if (!keys.fixed) keys.save([...ring, key]);
    for (const { row, secret } of opened) await resealSecret(unit, row.id, { key_id: key.id, sealed: sealSecret(key, row, secret) });
    const forgotten = await removeSecrets(
      unit,
      lost.map((row) => row.id),
    );
    return { secrets: opened.length, forgotten, keyId: key.id, keyPlace: keys.place, fixed: keys.fixed };
  });
  if (!keys.fixed) await dropOldKeys(catalog, keys);
  return rotation;
}

/** What the rows say decides, not what this process remembers: another rotation may have come between. */
async function dropOldKeys(catalog: Catalog, keys: KeyStore): Promise<void> {
  await catalog.transaction(async (unit) => {
    const used = new Set((await listSecrets(unit)).map((row) => row.key_id));
    const ring = keys.load();
    keys.save(ring.filter((key, index) => used.has(key.id) || index === ring.length - 1));
  });
}

/** Made at first need. Not when others are in use that are not here: then this is the wrong key, or none where there should be one. */
function sealingKey(keys: KeyStore, others: readonly SealedSecret[]): SecretKey {
  const ring = keys.load();
  for (const row of others) keyOf(ring, row, keys);
  if (ring.length > 0 || keys.fixed) return newest(ring, keys);
  const made = makeSecretKey();
  keys.save([made]);
  return made;
}

function newest(ring: readonly SecretKey[], keys: KeyStore): SecretKey {
  const last = ring.at(-1);
  if (last) return last;
  throw new ChainkeepError('CONFIG_INVALID', `there is no key in ${keys.place}`, { advice: 'make one with: openssl rand -hex 32' });
}

function keyOf(ring: readonly SecretKey[], row: SealedSecret, keys: KeyStore): SecretKey {
  const found = ring.find((key) => key.id === row.key_id);
  if (found) return found;
  const there = ring.length === 0 ? 'there is none' : `there is ${ring.map((key) => key.id).join(', ')}`;
  throw new ChainkeepError(
    'SECRET_KEY_MISSING',
    `stored secrets are encrypted with the key ${row.key_id}, which is not in ${keys.place} (${there})`,
    {
      advice:
        'put the right key back from your copy; when it is lost for good, drop these secrets with "chainkeep key rotate --forget-unreadable" and give them again with "chainkeep repo update"',
      context: { key_id: row.key_id, key_place: keys.place, repository_id: row.repository_id },
    },
  );
}

function requireSecondKey(keys: KeyStore): void {
  if (keys.load().length > 1) return;
  throw new ChainkeepError('CONFIG_INVALID', `the key comes from ${keys.place} and cannot be changed from here`, {
    advice:
      'add a new one there behind the old one (two keys separated by a blank), run "chainkeep key rotate" again, then take the old one away',
    context: { key_place: keys.place },
  });
}
