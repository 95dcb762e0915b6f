// TLS on the side of the server: with what it proves who it is, and whom it lets in.
// One way or the other, never both: a client must not be able to choose the weaker proof.

import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { createServer, type TlsOptions } from 'node:tls';
import { ChainkeepError } from '../../plumbing/errors.ts';
import type { Secret } from '../../plumbing/secret.ts';
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
