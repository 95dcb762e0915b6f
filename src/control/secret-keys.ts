// Where the keys of secrets are kept: given from outside (environment, systemd credential, a file that somebody else looks after), else a file in the
// home. Never in the database, and never in a message: errors name the place, not what stands there.

import { closeSync, constants, existsSync, fstatSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { ChainkeepError, systemCode } from '../plumbing/errors.ts';
import { syncFolder } from '../plumbing/make-folder.ts';
import { Secret } from '../plumbing/secret.ts';
import { parseSecretKey, type SecretKey } from './secret-box.ts';

export interface KeySettings {
  readonly home: string;
  /** A database of its own has a key of its own, also in the same home. */
  readonly installationId: string;
  /** What CHAINKEEP_KEY says. */
  readonly key?: Secret;
  /** What CHAINKEEP_KEY_FILE says. */
  readonly keyFile?: string;
  /** systemd's CREDENTIALS_DIRECTORY. */
  readonly credentialsDirectory?: string;
}

/** The keys in the order of their age: the last one seals, all of them open. */
export interface KeyStore {
  /** For messages: a path, or the name of the variable. */
  readonly place: string;
  /** Somebody else looks after them: they are not made, changed or removed here. */
  readonly fixed: boolean;
  /** Empty where there is none yet. Throws CONFIG_INVALID for what is no key or can be read by others. */
  load(): readonly SecretKey[];
  /** In one durable step. Only under the write lock of the database: two at once would lose a key. */
  save(keys: readonly SecretKey[]): void;
}

const CREDENTIAL = 'chainkeep-key';
const HEAD = `# The key of Chainkeep's secrets; the last line is the newest. Keep a copy of it apart from the database.\n`;

export function openKeyStore(settings: KeySettings): KeyStore {
  const { key, keyFile, credentialsDirectory } = settings;
  if (key) return fixedStore('CHAINKEEP_KEY', () => key);
  if (keyFile !== undefined) return fixedStore(keyFile, () => readKeyFile(keyFile));
  const credential = credentialsDirectory === undefined ? undefined : join(credentialsDirectory, CREDENTIAL);
  if (credential !== undefined && existsSync(credential)) return fixedStore(credential, () => readKeyFile(credential));
  return homeStore(join(settings.home, `secrets-${settings.installationId}.key`));
}

function fixedStore(place: string, read: () => Secret): KeyStore {
  return {
    place,
    fixed: true,
    load: () => parseKeys(place, read()),
    save: () => {
      throw new ChainkeepError('INTERNAL', `the keys in ${place} are not ours to change`);
    },
  };
}

function homeStore(path: string): KeyStore {
  return {
    place: path,
    fixed: false,
    load: () => (existsSync(path) ? parseKeys(path, readKeyFile(path, { private: true })) : []),
    save: (keys) => writeKeyFile(path, `${HEAD}${keys.map(({ hex }) => `${hex.reveal()}\n`).join('')}`),
  };
}

function readKeyFile(path: string, options: { readonly private?: boolean } = {}): Secret {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(path, 'r');
    if (options.private && (fstatSync(descriptor).mode & 0o077) !== 0) throw openToOthers(path);
    return new Secret(readFileSync(descriptor, 'utf8'));
  } catch (error) {
    if (error instanceof ChainkeepError) throw error;
    throw new ChainkeepError('CONFIG_INVALID', `the key file ${path} cannot be read: ${systemCode(error) ?? 'it is no file'}`, {
      advice: 'put the key there, readable by the user that runs Chainkeep',
      context: { key_place: path },
      cause: error,
    });
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

function openToOthers(path: string): ChainkeepError {
  return new ChainkeepError('CONFIG_INVALID', `the key file ${path} can be read by other users of this machine`, {
    advice: `take that right away with: chmod 600 ${path}; if somebody may have read it, also: chainkeep key rotate`,
    context: { key_place: path },
  });
}

function parseKeys(place: string, content: Secret): readonly SecretKey[] {
  const words = content
    .reveal()
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .flatMap((line) => line.split(/[\s,]+/))
    .filter((word) => word !== '');
  const keys = words.map(parseSecretKey).filter((key) => key !== undefined);
  if (keys.length > 0 && keys.length === words.length) return keys;
  throw new ChainkeepError('CONFIG_INVALID', `${place} does not hold a key of 32 random bytes`, {
    advice: 'put a copy of the key there; a new one is made with: openssl rand -hex 32',
    context: { key_place: place },
  });
}

/** Complete and on the disk under another name first: a kill or a power loss leaves the old keys or the new ones. */
function writeKeyFile(path: string, content: string): void {
  const fresh = `${path}.new`;
  try {
    rmSync(fresh, { force: true }); // what a killed run has left
    const descriptor = openSync(fresh, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
    try {
      writeSync(descriptor, content);
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    renameSync(fresh, path);
    syncFolder(join(path, '..'));
  } catch (error) {
    rmSync(fresh, { force: true });
    throw new ChainkeepError('CONFIG_INVALID', `the key file ${path} cannot be written: ${systemCode(error) ?? String(error)}`, {
      advice: 'make room in the home and check that it belongs to this user',
      context: { key_place: path },
      cause: error,
    });
  }
}
