// Certificates and keys for one run of the tests, made by 'openssl', in the folders that QEMU, libnbd and nbdkit expect.

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Secret } from '../../src/plumbing/secret.ts';

export interface TlsMaterial {
  /** ca-cert.pem, server-cert.pem, server-key.pem, client-cert.pem, client-key.pem. */
  readonly folder: string;
  readonly pskFile: string;
  readonly pskKey: Secret;
  read(name: string): Buffer;
}

export function makeTlsMaterial(folder: string): TlsMaterial {
  mkdirSync(folder);
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: folder, stdio: 'pipe', timeout: 60_000 });
  };
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl(
    'req',
    '-x509',
    ...ec,
    '-keyout',
    'ca-key.pem',
    '-out',
    'ca-cert.pem',
    '-days',
    '30',
    '-subj',
    '/CN=test CA',
    '-addext',
    'keyUsage=critical,keyCertSign',
  );
  for (const [who, subject, names] of [
    ['server', '/CN=nbd.example', 'DNS:localhost,DNS:nbd.example,IP:127.0.0.1'],
    ['client', '/CN=a client', 'DNS:client.example'],
  ] as const) {
    openssl('req', ...ec, '-keyout', `${who}-key.pem`, '-out', `${who}.csr`, '-subj', subject);
    writeFileSync(join(folder, `${who}.ext`), `subjectAltName=${names}\nkeyUsage=digitalSignature\nextendedKeyUsage=${who}Auth\n`);
    const ca = ['-CA', 'ca-cert.pem', '-CAkey', 'ca-key.pem', '-CAcreateserial'];
    openssl('x509', '-req', '-in', `${who}.csr`, ...ca, '-days', '30', '-extfile', `${who}.ext`, '-out', `${who}-cert.pem`);
  }
  const key = '8d1f2a3b4c5d6e7f8091a2b3c4d5e6f70123456789abcdef0123456789abcdef';
  writeFileSync(join(folder, 'keys.psk'), `bob:${key.replace('8', '9')}\nalice:${key}\n`);
  return { folder, pskFile: join(folder, 'keys.psk'), pskKey: new Secret(key), read: (name) => readFileSync(join(folder, name)) };
}
