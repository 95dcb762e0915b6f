// Sealing and opening one secret: AES-256-GCM, bound to the row it lies in.
// It must not know where keys or rows are kept.

import { createCipheriv, createDecipheriv, createHmac, randomBytes } from 'node:crypto';
import { ChainkeepError } from '../plumbing/errors.ts';
import { Secret } from '../plumbing/secret.ts';

/** 32 random bytes, and the name that is stored beside what they seal. */
export interface SecretKey {
  readonly id: string;
  /** As 64 hexadecimal digits. */
  readonly hex: Secret;
}

/** The row of a secret: a ciphertext that is moved to another row does not open. */
export interface SecretPlace {
  readonly id: string;
  readonly repository_id: string;
  readonly name: string;
}

const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const VERSION = 'v1';

/** A new key. */
export function makeSecretKey(): SecretKey {
  return secretKey(randomBytes(KEY_BYTES));
}

/** Undefined for what is no key: 64 hexadecimal digits, or the base64 of 32 bytes. */
export function parseSecretKey(text: string): SecretKey | undefined {
  const bytes = Buffer.from(text, /^[0-9a-fA-F]{64}$/.test(text) ? 'hex' : 'base64');
  const isKey = /^([0-9a-fA-F]{64}|[A-Za-z0-9+/]{43}=?)$/.test(text) && bytes.length === KEY_BYTES;
  return isKey ? secretKey(bytes) : undefined;
}

/** The id says nothing of the key, and is the same wherever the key is kept. */
function secretKey(bytes: Buffer): SecretKey {
  const id = createHmac('sha256', bytes).update('chainkeep key id').digest('hex').slice(0, 16);
  return { id, hex: new Secret(bytes.toString('hex')) };
}

/** `v1:` and the base64 of nonce, tag and ciphertext. A new nonce each time: 96 random bits are enough for 2^32 seals under one key. */
export function sealSecret(key: SecretKey, place: SecretPlace, secret: Secret): string {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', bytesOf(key), nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(boundTo(key, place));
  const sealed = Buffer.concat([cipher.update(secret.reveal(), 'utf8'), cipher.final()]);
  return `${VERSION}:${Buffer.concat([nonce, cipher.getAuthTag(), sealed]).toString('base64')}`;
}

/** Throws SECRET_INVALID for one that was changed, cut, or sealed for another row. */
export function openSecret(key: SecretKey, place: SecretPlace, sealed: string): Secret {
  try {
    const [version, content = ''] = sealed.split(':');
    if (version !== VERSION) throw new Error(`version ${version?.slice(0, 8)} is not known`);
    const bytes = Buffer.from(content, 'base64');
    if (bytes.length < NONCE_BYTES + TAG_BYTES) throw new Error('it is too short');
    const decipher = createDecipheriv('aes-256-gcm', bytesOf(key), bytes.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES });
    decipher.setAAD(boundTo(key, place));
    decipher.setAuthTag(bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
    const opened = Buffer.concat([decipher.update(bytes.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()]);
    return new Secret(opened.toString('utf8'));
  } catch (error) {
    throw new ChainkeepError('SECRET_INVALID', `the stored secret "${place.name}" of repository ${place.repository_id} is damaged`, {
      advice: `give it again: chainkeep repo update ${place.repository_id} --secret ${place.name}=file:PATH`,
      context: { repository_id: place.repository_id, setting: place.name },
      cause: error,
    });
  }
}

function bytesOf(key: SecretKey): Buffer {
  return Buffer.from(key.hex.reveal(), 'hex');
}

/** JSON keeps the parts apart: no two places give the same bytes. */
function boundTo(key: SecretKey, { id, repository_id, name }: SecretPlace): Buffer {
  return Buffer.from(JSON.stringify(['chainkeep secret', VERSION, key.id, id, repository_id, name]));
}
