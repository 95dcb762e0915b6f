// Opens the catalog on MariaDB: what its URL says, where the password comes from, and when the connection is encrypted.
// It must not keep the password, nor put it into a message.

import { readFileSync } from 'node:fs';
import { createPool, type PoolOptions } from 'mysql2/promise';
import type { Clock } from '../plumbing/clock.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import { MariadbCatalog } from './mariadb-catalog.ts';

/** Statements of one process that are under way at once. */
const CONNECTIONS = 4;
const PARAMETERS: ReadonlySet<string> = new Set(['socket', 'tls', 'ca']);

export interface OpenMariadbOptions {
  readonly url: string;
  readonly clock: Clock;
  readonly busyTimeout: number;
  readonly password?: string | undefined;
}

/** `mariadb://USER@HOST[:PORT]/DATABASE[?socket=PATH][&tls=off][&ca=FILE]`. Throws CONFIG_INVALID; connects at the first statement. */
export function openMariadb({ url, clock, busyTimeout, password }: OpenMariadbOptions): {
  readonly catalog: MariadbCatalog;
  readonly name: string;
} {
  const parsed = parse(url);
  const database = decodeURIComponent(parsed.pathname.slice(1));
  const socketPath = parsed.searchParams.get('socket');
  const place = socketPath === null ? { host: bareHost(parsed), port: Number(parsed.port || 3306) } : { socketPath };
  const name = `mariadb://${socketPath ?? parsed.host}/${database}`;
  const pool = createPool({
    ...place,
    ...encryption(parsed, socketPath !== null),
    user: decodeURIComponent(parsed.username),
    database,
    ...(password !== undefined && { password }),
    connectTimeout: busyTimeout,
    connectionLimit: CONNECTIONS,
    // Times as text, sizes beyond 2^53 as text: column.ts checks both, and nothing is rounded on the way.
    dateStrings: true,
    supportBigNumbers: true,
    bigNumberStrings: false,
    jsonStrings: true,
    // Sums; beyond 2^53 they are no safe integers any more, and refused.
    decimalNumbers: true,
  });
  return { catalog: new MariadbCatalog(pool, { name, busyTimeout }, clock), name };
}

function parse(url: string): URL {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  const unknown = parsed && [...parsed.searchParams.keys()].find((key) => !PARAMETERS.has(key));
  if (
    !parsed ||
    parsed.username === '' ||
    !/^\/[^/]+$/.test(parsed.pathname) ||
    (parsed.host === '' && !parsed.searchParams.has('socket'))
  ) {
    throw invalid('the database URL is not complete', 'write it as mariadb://USER@HOST/DATABASE');
  }
  if (parsed.password !== '') {
    throw invalid('the database URL contains a password, which others could see', 'put it into CHAINKEEP_DATABASE_PASSWORD');
  }
  if (unknown !== undefined)
    throw invalid(`the database URL has an unknown parameter ${unknown}`, `known are: ${[...PARAMETERS].join(', ')}`);
  return parsed;
}

/** On the way to another machine the connection is encrypted and the server proves who it is, unless that is refused in so many words. */
function encryption(url: URL, socket: boolean): Pick<PoolOptions, 'ssl'> {
  const wish = url.searchParams.get('tls') ?? 'on';
  if (wish !== 'on' && wish !== 'off') throw invalid(`tls=${wish} is not known in the database URL`, 'it is on or off');
  const ca = url.searchParams.get('ca');
  const local = socket || /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname);
  if (wish === 'off' || (local && ca === null)) return {};
  return { ssl: { rejectUnauthorized: true, minVersion: 'TLSv1.2', ...(ca !== null && { ca: readAuthority(ca) }) } };
}

function readAuthority(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw invalid(
      `the certificate authority ${path} of the database cannot be read: ${error instanceof Error ? error.message : error}`,
      'check ca=FILE',
    );
  }
}

/** As sockets want it: without the brackets of IPv6. */
function bareHost(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, '');
}

function invalid(what: string, advice: string): ChainkeepError {
  return new ChainkeepError('CONFIG_INVALID', what, { advice });
}
