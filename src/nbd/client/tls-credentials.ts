// With what a client proves who it is, and by what it knows the server: certificates, or a key both have.
// Read from files in the layout that QEMU, libnbd and nbdkit share. Keys never leave it but for the connection.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ChainkeepError, systemCode } from '../../plumbing/errors.ts';
import { Secret } from '../../plumbing/secret.ts';
import type { AddressTls } from './address.ts';

export type TlsCredentials =
  | {
      readonly kind: 'x509';
      /** PEM; without it, the authorities that Node.js comes with and those in NODE_EXTRA_CA_CERTS. */
      readonly ca?: Buffer;
      readonly certificate?: Buffer;
      readonly key?: Secret;
    }
  | {
      readonly kind: 'psk';
      readonly identity: string;
      /** 16 bytes or more in hexadecimal digits. */
      readonly key: Secret;
    };

/** Throws CONFIG_INVALID where a file is missing or is not what it should be. */
export async function readTlsCredentials(tls: AddressTls): Promise<TlsCredentials> {
  if (tls.pskFile !== undefined) {
    if (tls.type === 'x509') throw invalid('tls-type=x509 does not go with tls-psk-file');
    const { identity, key } = await readPsk(tls.pskFile, tls.username);
    return { kind: 'psk', identity, key };
  }
  if (tls.type === 'psk') throw invalid('tls-type=psk needs tls-psk-file');
  if (tls.certificates === undefined) return { kind: 'x509' };
  const ca = await readRequired(join(tls.certificates, 'ca-cert.pem'));
  const certificate = await readOptional(join(tls.certificates, 'client-cert.pem'));
  const key = await readOptional(join(tls.certificates, 'client-key.pem'));
  if ((certificate === undefined) !== (key === undefined))
    throw invalid(`of client-cert.pem and client-key.pem one is missing in ${tls.certificates}`);
  return { kind: 'x509', ca, ...(certificate && key && { certificate, key: new Secret(key.toString('utf8')) }) };
}

/** Lines `username:hexkey`; without a user name the first one counts. */
async function readPsk(path: string, username: string | undefined): Promise<{ readonly identity: string; readonly key: Secret }> {
  const lines = (await readRequired(path)).toString('utf8').split('\n');
  for (const line of lines) {
    const [, identity = '', key = ''] = /^([^:]+):(.*?)\s*$/.exec(line) ?? [];
    if (identity !== '' && (username === undefined || username === identity)) return { identity, key: new Secret(key) };
  }
  throw invalid(`${path} has no line username:key${username === undefined ? '' : ' for the user name of the address'}`);
}

async function readRequired(path: string): Promise<Buffer> {
  const bytes = await readOptional(path);
  if (bytes === undefined) throw invalid(`${path} does not exist`);
  return bytes;
}

async function readOptional(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw invalid(`${path} cannot be read (${systemCode(error) ?? 'unknown error'})`, error);
  }
}

function invalid(why: string, cause?: unknown): ChainkeepError {
  return new ChainkeepError('CONFIG_INVALID', `TLS cannot be used: ${why}`, {
    advice:
      'tls-certificates names a folder with ca-cert.pem, client-cert.pem and client-key.pem; tls-psk-file a file of lines username:hexkey',
    cause,
  });
}
