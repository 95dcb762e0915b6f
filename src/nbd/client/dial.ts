// Opens a socket to a server, and puts TLS around it once both sides have agreed on it.
// Never falls back to less than what was asked for.

import { isIP, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { ChainkeepError, systemCode } from '../../plumbing/errors.ts';
import { DirectSocket } from '../direct-socket.ts';
import { KEEP_ALIVE } from '../keep-alive.ts';
import { PSK_CIPHERS, pskBytes } from '../psk.ts';
import type { NbdPlace } from './address.ts';
import type { TlsCredentials } from './tls-credentials.ts';

/** Rejects with CONNECTION_FAILED; when `signal` fires the socket is gone, also later on. `plain`: TLS will not be put around it. */
export function dial(place: NbdPlace, plain: boolean, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const options = place.kind === 'tcp' ? { noDelay: true, ...KEEP_ALIVE } : {};
    const socket = plain ? new DirectSocket(options) : new Socket(options);
    socket.connect(place.kind === 'tcp' ? { host: place.host, port: place.port } : { path: place.path });
    const onAbort = (): void => {
      socket.destroy();
      reject(signal.reason);
    };
    if (signal.aborted) return onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    socket.on('close', () => signal.removeEventListener('abort', onAbort));
    socket.once('error', (error) => reject(unreachable(place, error)));
    socket.once('connect', () => resolve(socket));
  });
}

export interface TlsWish {
  readonly credentials: TlsCredentials;
  /** That the certificate must carry. */
  readonly hostname: string;
}

/** Rejects with CONNECTION_FAILED when the server cannot prove who it is, or does not let us in. */
export function startTls(socket: Duplex, { credentials, hostname }: TlsWish): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const options = { socket, minVersion: 'TLSv1.2' as const, ...(isIP(hostname) === 0 && { servername: hostname }) };
    const secure = connectTls({ ...options, ...credentialOptions(credentials), ...(credentials.kind === 'x509' && { host: hostname }) });
    const fail = (cause: unknown): void => {
      socket.destroy();
      reject(tlsFailed(cause));
    };
    secure.once('error', fail);
    secure.once('close', () => fail(undefined));
    secure.once('secureConnect', () => {
      secure.off('error', fail);
      // An error between here and whoever listens next is found by that one: the stream is destroyed then.
      secure.on('error', () => undefined);
      resolve(secure);
    });
  });
}

function credentialOptions(credentials: TlsCredentials): ConnectionOptions {
  if (credentials.kind === 'x509') {
    const { ca, certificate, key } = credentials;
    return { rejectUnauthorized: true, ...(ca && { ca }), ...(certificate && key && { cert: certificate, key: key.reveal() }) };
  }
  const { identity } = credentials;
  const psk = pskBytes(credentials.key);
  return {
    ciphers: PSK_CIPHERS,
    pskCallback: () => ({ identity, psk }),
    // A server may pass over the key and show a certificate instead (TLS 1.3). The key alone is proof: no CA counts, and no name.
    ca: [],
    checkServerIdentity: (_host, shown) => (Object.keys(shown).length > 0 ? new Error('it showed a certificate, not the key') : undefined),
  };
}

function unreachable(place: NbdPlace, cause: unknown): ChainkeepError {
  const where = place.kind === 'tcp' ? `${place.host}:${place.port}` : place.path.replace('\0', '@');
  return new ChainkeepError('CONNECTION_FAILED', `the NBD server at ${where} cannot be reached (${systemCode(cause) ?? 'unknown error'})`, {
    advice: 'does it run, and does it listen there?',
    retryable: true,
    context: { address: where },
    cause,
  });
}

function tlsFailed(cause: unknown): ChainkeepError {
  const code = systemCode(cause);
  const why = cause instanceof Error ? `: ${code ?? cause.message}` : ': the server ended it';
  return new ChainkeepError('CONNECTION_FAILED', `no secure connection to the NBD server${why}`, {
    advice: 'check the certificates of both sides, the host name in that of the server (tls-hostname), or the key and user name',
    // It is gone, as when it is started anew: nothing is said of whether it can be trusted.
    retryable: cause === undefined || code === 'ECONNRESET',
    cause,
  });
}
