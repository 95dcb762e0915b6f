// From an address to a negotiated socket, within a time limit: the one place that puts dialling, TLS and negotiation together.

import { ChainkeepError, throwIfCancelled } from '../../plumbing/errors.ts';
import { pskBytes } from '../psk.ts';
import { describeAddress, type NbdAddress, parseNbdAddress } from './address.ts';
import { dial, type TlsWish } from './dial.ts';
import { NbdConnection } from './nbd-connection.ts';
import { type HeaderStyle, Negotiation } from './negotiation.ts';
import { readTlsCredentials, type TlsCredentials } from './tls-credentials.ts';

export interface ConnectOptions {
  /** For `nbds` addresses; else what the address names, else a certificate of an authority that Node.js comes with. */
  readonly tls?: TlsCredentials;
  /** Milliseconds until an export must be open; 30 000 if left out. */
  readonly connectWithin?: number;
  /** Milliseconds a READ, WRITE or BLOCK_STATUS may take; 60 000 if left out. What has no bytes with it (FLUSH, TRIM, WRITE_ZEROES) has half an hour. */
  readonly answerWithin?: number;
  /** The best headers to ask for; `extended` if left out. */
  readonly headers?: HeaderStyle;
}

const CONNECT_WITHIN = 30_000;
const ANSWER_WITHIN = 60_000;

export interface NbdTarget {
  readonly address: NbdAddress;
  /** The address as it may be shown. */
  readonly shown: string;
  readonly tls?: TlsWish;
  readonly options: ConnectOptions;
}

/** Throws CONFIG_INVALID. */
export async function resolveTarget(text: string, options: ConnectOptions): Promise<NbdTarget> {
  const address = parseNbdAddress(text);
  const shown = describeAddress(address);
  const { tls, place } = address;
  if (!tls) {
    if (options.tls)
      throw new ChainkeepError('CONFIG_INVALID', `credentials for TLS were given and ${shown} goes without`, { advice: 'write nbds' });
    return { address, shown, options };
  }
  const credentials = options.tls ?? (await readTlsCredentials(tls));
  if (credentials.kind === 'psk') pskBytes(credentials.key);
  const hostname = tls.hostname ?? (place.kind === 'tcp' ? place.host : 'localhost');
  return { address, shown, options, tls: { credentials, hostname } };
}

/** Runs `use` on a fresh negotiation, after TLS and headers. The socket is closed when `use` fails or the time is over. */
export async function withNegotiation<Answer>(
  { address, shown, tls, options }: NbdTarget,
  signal: AbortSignal | undefined,
  use: (negotiation: Negotiation) => Promise<Answer>,
): Promise<Answer> {
  throwIfCancelled(signal);
  const within = options.connectWithin ?? CONNECT_WITHIN;
  const late = new AbortController();
  const onCancel = (): void => late.abort(signal?.reason);
  signal?.addEventListener('abort', onCancel, { once: true });
  const timer = setTimeout(() => late.abort(tooLate(shown, within)), within);
  const sockets: { destroy(): unknown }[] = [];
  try {
    const socket = await dial(address.place, tls === undefined, late.signal);
    sockets.push(socket);
    const negotiation = new Negotiation(socket, shown);
    await negotiation.begin(tls, options.headers ?? 'extended');
    sockets.push(negotiation.socket);
    return await use(negotiation);
  } catch (error) {
    for (const socket of sockets) socket.destroy();
    throwIfCancelled(signal);
    throw late.signal.aborted ? late.signal.reason : error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onCancel);
  }
}

/** An open export with those of `contexts` that it has. Throws CONNECTION_FAILED, EXPORT_NOT_FOUND, EXPORT_REFUSED, NBD_PROTOCOL. */
export function connectNbd(target: NbdTarget, contexts: readonly string[], signal?: AbortSignal): Promise<NbdConnection> {
  const { exportName } = target.address;
  return withNegotiation(target, signal, async (negotiation) => {
    const chosen = await negotiation.setContexts(exportName, contexts);
    const facts = await negotiation.go(exportName);
    const { socket, style } = negotiation;
    return new NbdConnection({ socket, style, facts, contexts: chosen, answerWithin: target.options.answerWithin ?? ANSWER_WITHIN });
  });
}

function tooLate(shown: string, within: number): ChainkeepError {
  return new ChainkeepError('CONNECTION_FAILED', `the NBD server of ${shown} did not open the export within ${within} ms`, {
    advice: 'it may have as many clients as it takes, or not be an NBD server',
    retryable: true,
    context: { address: shown, waited_ms: within },
  });
}
