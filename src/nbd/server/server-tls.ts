// TLS on the side of the server: with what it proves who it is, and whom it lets in.
// One way or the other, never both: a client must not be able to choose the weaker proof.

import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { createServer, type TlsOptions } from 'node:tls';
import { ChainkeepError, systemCode } from '../../plumbing/errors.ts';
import { Secret } from '../../plumbing/secret.ts';
import { PSK_CIPHERS, pskBytes } from '../psk.ts';

export type ServerTls =
  | {
      readonly kind: 'x509';
      /** PEM, with the chain up to what clients trust. */
      readonly certificate: Buffer;
      readonly key: Secret;
      /** PEM: clients must have a certificate of it. Without it everybody is let in who knows the name of an export. */
      readonly clientCa?: Buffer;
    }
  | {
      readonly kind: 'psk';
      /** Keys of 16 bytes or more in hexadecimal digits, by user name. */
      readonly keys: ReadonlyMap<string, Secret>;
    };

/**
 * From a folder in the layout that QEMU and nbdkit share: server-cert.pem, server-key.pem, and ca-cert.pem, of which clients must have a certificate.
 * Throws CONFIG_INVALID where a file is missing.
 */
export async function readServerTls(folder: string): Promise<ServerTls> {
  const certificate = await readPem(folder, 'server-cert.pem');
  const key = new Secret((await readPem(folder, 'server-key.pem')).toString('utf8'));
  const clientCa = await readPem(folder, 'ca-cert.pem');
  return { kind: 'x509', certificate, key, clientCa };
}

async function readPem(folder: string, file: string): Promise<Buffer> {
  try {
    return await readFile(join(folder, file));
  } catch (error) {
    throw new ChainkeepError('CONFIG_INVALID', `${join(folder, file)} cannot be read: ${systemCode(error) ?? String(error)}`, {
      advice: 'the folder needs server-cert.pem, server-key.pem, and ca-cert.pem, of which clients must have a certificate',
      cause: error,
    });
  }
}

/** Throws CONFIG_INVALID for a key that is none. */
export function checkServerTls(tls: ServerTls): void {
  if (tls.kind === 'psk') for (const key of tls.keys.values()) pskBytes(key);
}

/** The secure stream over `socket`, once the client has proved what it must. Rejects with CONNECTION_FAILED; the socket is closed then. */
export function acceptTls(socket: Socket, tls: ServerTls): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    // A server of its own for each connection, never listening: so it is certain whose handshake has ended.
    const server = createServer({ minVersion: 'TLSv1.2', ...options(tls) });
    const fail = (cause?: unknown): void => {
      socket.destroy();
      reject(new ChainkeepError('CONNECTION_FAILED', 'a client did not complete the TLS handshake', { cause }));
    };
    server.once('tlsClientError', fail);
    socket.once('close', () => fail());
    server.once('secureConnection', (secure) => {
      // An error between here and whoever listens next is found by that one: the stream is destroyed then.
      secure.on('error', () => undefined);
      resolve(secure);
    });
    server.emit('connection', socket);
  });
}

function options(tls: ServerTls): TlsOptions {
  if (tls.kind === 'psk') {
    const keys = new Map([...tls.keys].map(([identity, key]) => [identity, pskBytes(key)]));
    return { ciphers: PSK_CIPHERS, pskCallback: (_socket, identity) => keys.get(identity) ?? null };
  }
  const { certificate, key, clientCa } = tls;
  const clients = clientCa ? { ca: clientCa, requestCert: true, rejectUnauthorized: true } : {};
  return { cert: certificate, key: key.reveal(), ...clients };
}
