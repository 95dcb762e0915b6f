// Addresses of exports: the URIs of the NBD project (doc/uri.md), with the TLS parameters that libnbd and nbdkit know.
// It only reads; nothing is opened or looked up.

import { ChainkeepError } from '../../plumbing/errors.ts';
import { isText } from '../protocol/text.ts';

export type NbdPlace =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  /** `path` is that of a socket; with a NUL in front a name of Linux' abstract namespace. */
  | { readonly kind: 'unix'; readonly path: string };

/** What an address says of TLS. Where it says `nbds`, no byte of an export is sent or read without. */
export interface AddressTls {
  /** Name that the server's certificate must carry, where it is not that of the host. */
  readonly hostname?: string;
  readonly type?: 'x509' | 'psk';
  /** Folder with ca-cert.pem and, to be known to the server, client-cert.pem and client-key.pem. */
  readonly certificates?: string;
  /** File with lines `username:key`, the key in hexadecimal digits. */
  readonly pskFile?: string;
  readonly username?: string;
}

export interface NbdAddress {
  readonly place: NbdPlace;
  readonly exportName: string;
  readonly tls?: AddressTls;
}

export const NBD_PORT = 10_809;
const SCHEME = /^(nbds?)(\+unix)?:\/\//;

/** Is it meant as the address of an export? Kinds that are not supported are among them. */
export function isNbdAddress(text: string): boolean {
  return /^nbds?(\+[a-z]+)?:/.test(text);
}

/** Throws CONFIG_INVALID for what is no address of an export, or asks for what is refused. */
export function parseNbdAddress(text: string): NbdAddress {
  const [start, scheme, unix] = SCHEME.exec(text) ?? [];
  if (start === undefined) throw invalid('it begins with none of nbd://, nbds://, nbd+unix://, nbds+unix://');
  const { authority, path, query } = splitUri(text.slice(start.length));
  const parameters = parseQuery(query);
  const { username, host, port } = parseAuthority(authority);
  const exportName = decode(path.replace(/^\//, ''), 'the name of the export');
  if (!isText(exportName)) throw invalid('the name of the export holds a NUL or is longer than 4096 bytes');
  const socket = parameters.get('socket');
  const place = unix === undefined ? tcpPlace(host, port, socket) : unixPlace(host, socket);
  const tls = parseTls(parameters, username);
  if (scheme === 'nbds') return { place, exportName, tls };
  if (Object.keys(tls).length > 0) throw invalid(`TLS is asked for and ${scheme} would go without: write nbds`);
  return { place, exportName };
}

function splitUri(rest: string): { readonly authority: string; readonly path: string; readonly query: string } {
  if (rest.includes('#')) throw invalid('it has a fragment (#…), which addresses of exports do not have');
  const [, authority = '', path = '', query = ''] = /^([^/?]*)([^?]*)(?:\?(.*))?$/s.exec(rest) ?? [];
  return { authority, path, query };
}

function parseAuthority(authority: string): { readonly username?: string; readonly host: string; readonly port: number } {
  const at = authority.lastIndexOf('@');
  const user = at < 0 ? undefined : decode(authority.slice(0, at), 'the user name');
  if (user?.includes(':')) throw invalid('a password in an address can be seen by everybody: use tls-psk-file or tls-certificates');
  const match = /^(\[[0-9a-fA-F:.%]+\]|[^:[\]]*)(?::(\d*))?$/.exec(authority.slice(at + 1));
  if (!match) throw invalid('the host is neither a name, nor an IPv4 address, nor an IPv6 address in brackets');
  const port = match[2] ? Number(match[2]) : NBD_PORT;
  if (port < 1 || port > 65_535) throw invalid(`the port ${port} is not one from 1 to 65535`);
  const host = decode(match[1] ?? '', 'the host').replace(/^\[|\]$/g, '');
  return { host, port, ...(user !== undefined && { username: user }) };
}

function tcpPlace(host: string, port: number, socket: string | undefined): NbdPlace {
  if (socket !== undefined) throw invalid('it names a socket: write nbd+unix:///NAME?socket=PATH');
  if (host === '') throw invalid('it names no host');
  return { kind: 'tcp', host, port };
}

function unixPlace(host: string, socket: string | undefined): NbdPlace {
  if (host !== '') throw invalid('a unix socket has no host: write three slashes, nbd+unix:///NAME?socket=PATH');
  if (!socket) throw invalid('it does not name the socket: nbd+unix:///NAME?socket=PATH');
  if (socket.indexOf('\0', 1) >= 0) throw invalid('the path of the socket holds a NUL');
  return { kind: 'unix', path: socket };
}

const PARAMETERS: ReadonlySet<string> = new Set([
  'socket',
  'tls-type',
  'tls-hostname',
  'tls-verify-peer',
  'tls-certificates',
  'tls-psk-file',
]);

function parseQuery(query: string): ReadonlyMap<string, string> {
  const parameters = new Map<string, string>();
  for (const pair of query.split('&')) {
    if (pair === '') continue;
    const [name = '', ...rest] = pair.split('=');
    const key = decode(name, 'a parameter');
    if (!PARAMETERS.has(key)) throw invalid(`it has a parameter that is not one of ${[...PARAMETERS].join(', ')}`);
    if (parameters.has(key)) throw invalid(`it names ${key} twice`);
    parameters.set(key, decode(rest.join('='), key));
  }
  return parameters;
}

function parseTls(parameters: ReadonlyMap<string, string>, username: string | undefined): AddressTls {
  const type = parameters.get('tls-type');
  const verify = parameters.get('tls-verify-peer');
  const hostname = parameters.get('tls-hostname');
  const certificates = parameters.get('tls-certificates');
  const pskFile = parameters.get('tls-psk-file');
  if (type !== undefined && type !== 'x509' && type !== 'psk')
    throw invalid('tls-type is x509 or psk; without proof of who the other side is, encryption is worth nothing');
  if (verify !== undefined && verify !== '1') throw invalid('tls-verify-peer can only be 1: a server that is not verified may be anybody');
  if (certificates !== undefined && pskFile !== undefined) throw invalid('tls-certificates and tls-psk-file exclude each other');
  return {
    ...(type !== undefined && { type }),
    ...(hostname !== undefined && { hostname }),
    ...(certificates !== undefined && { certificates }),
    ...(pskFile !== undefined && { pskFile }),
    ...(username !== undefined && { username }),
  };
}

function decode(text: string, what: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid(`${what} holds a % that is followed by no byte of UTF-8`);
  }
}

/** Shown to people: without user name and files of secrets. */
export function describeAddress({ place, exportName, tls }: NbdAddress): string {
  const scheme = tls ? 'nbds' : 'nbd';
  const name = encodeURIComponent(exportName).replaceAll('%2F', '/');
  if (place.kind === 'unix') return `${scheme}+unix:///${name}?socket=${encodeURIComponent(place.path).replaceAll('%2F', '/')}`;
  const host = place.host.includes(':') ? `[${place.host}]` : place.host;
  return `${scheme}://${host}${place.port === NBD_PORT ? '' : `:${place.port}`}/${name}`;
}

function invalid(why: string): ChainkeepError {
  return new ChainkeepError('CONFIG_INVALID', `the address of the NBD export is wrong: ${why}`, {
    advice: 'addresses look like nbd://HOST/NAME, nbds://HOST:PORT/NAME?tls-certificates=FOLDER, nbd+unix:///NAME?socket=PATH',
  });
}
