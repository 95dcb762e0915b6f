// Where a server listens: an address of this machine, or a unix socket that only its owner can use.

import { lstatSync, rmSync, statSync } from 'node:fs';
import { connect, isIP, type Server } from 'node:net';
import { ChainkeepError, systemCode } from '../../plumbing/errors.ts';

export type ListenAddress =
  | {
      readonly kind: 'tcp';
      readonly host: string;
      /** 0: any that is free. */
      readonly port: number;
    }
  | { readonly kind: 'unix'; readonly path: string };

/** Can only programs on this machine get there? */
export function isLocal(address: ListenAddress): boolean {
  if (address.kind === 'unix') return true;
  const { host } = address;
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

/** Begins to listen; answers where, with the port that was found. Throws CONFIG_INVALID where it is not possible. */
export async function beginListening(server: Server, address: ListenAddress): Promise<ListenAddress> {
  if (address.kind === 'unix' && !(await removeStaleSocket(address.path))) throw cannotListen(address.path, 'it is there already');
  const listening = new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.once('listening', resolve);
  });
  if (address.kind === 'tcp') server.listen({ host: address.host, port: address.port });
  else listenPrivately(server, address.path);
  try {
    await listening;
  } catch (error) {
    throw cannotListen(describeListen(address), systemCode(error) ?? 'unknown error', error);
  }
  if (address.kind === 'unix') {
    const { mode } = statSync(address.path);
    if ((mode & 0o077) === 0) return address;
    server.close();
    throw cannotListen(address.path, 'others than its owner can use the socket');
  }
  const bound = server.address();
  return { ...address, port: typeof bound === 'object' && bound ? bound.port : address.port };
}

/** The socket is made within `listen`: with this mask nobody else can use it, not even for a moment. */
function listenPrivately(server: Server, path: string): void {
  const mask = process.umask(0o177);
  try {
    server.listen({ path });
  } finally {
    process.umask(mask);
  }
}

/** What a killed server left is removed; a socket that answers belongs to somebody, and so does everything else. True when nothing is there any more. */
export async function removeStaleSocket(path: string): Promise<boolean> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (!stat) return true;
  if (!stat.isSocket() || (await answers(path))) return false;
  rmSync(path, { force: true });
  return true;
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error) => resolve(systemCode(error) !== 'ECONNREFUSED'));
  });
}

export function describeListen(address: ListenAddress): string {
  return address.kind === 'unix' ? address.path : `${address.host}:${address.port}`;
}

function cannotListen(where: string, why: string, cause?: unknown): ChainkeepError {
  return new ChainkeepError('CONFIG_INVALID', `the NBD server cannot listen at ${where}: ${why}`, {
    advice: 'choose another port or path',
    context: { address: where },
    cause,
  });
}
