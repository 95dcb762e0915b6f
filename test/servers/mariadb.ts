// A MariaDB server for tests: its own data folder, socket and port on 127.0.0.1, and nothing of the system's own server.
// With CHAINKEEP_TEST_MARIADB_URL that server is used instead; its user must be allowed to create databases.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createConnection } from 'mysql2/promise';
import { freePort } from './free-port.ts';

/** Everything a test needs to reach a server; plain data, so that it can be handed to other processes. */
export interface MariadbAddress {
  /** `mariadb://USER@HOST:PORT/`, to be followed by the name of a database. */
  readonly url: string;
  readonly password: string;
}

export interface MariadbServer {
  readonly address: MariadbAddress;
  readonly child: ChildProcess;
  /** Ends it as an administrator would. */
  stop(): Promise<void>;
}

const USER = 'chainkeep';
const PASSWORD = 'only for tests';
const START_MS = 60_000;
const PATH = `${process.env.PATH}:/usr/sbin:/sbin`;

export interface ServerOptions {
  /** An existing folder of an earlier server, or an empty one. Default: one of its own, removed at the end. */
  readonly folder?: string;
  readonly port?: number;
  readonly settings?: readonly string[];
}

export async function startMariadb(options: ServerOptions = {}): Promise<MariadbServer> {
  // In memory: a test makes sixty tables, and a disk would wait for each.
  const memory = statSync('/dev/shm', { throwIfNoEntry: false })?.isDirectory() ? '/dev/shm' : tmpdir();
  const folder = options.folder ?? mkdtempSync(join(memory, 'chainkeep-mariadb-'));
  const data = join(folder, 'data');
  const socket = join(folder, 's.sock');
  const port = options.port ?? (await freePort());
  const env = { ...process.env, PATH };
  const own = process.getuid?.() === 0 ? ['--user=root'] : [];
  const install = ['--no-defaults', ...own, `--datadir=${data}`, '--auth-root-authentication-method=normal', '--skip-test-db'];
  if (!existsSync(data)) execFileSync('mariadb-install-db', install, { env, stdio: 'pipe' });
  const args = ['--no-defaults', ...own, `--datadir=${data}`, `--socket=${socket}`, `--pid-file=${join(folder, 'pid')}`];
  const child = spawn(
    'mariadbd',
    [
      ...args,
      '--bind-address=127.0.0.1',
      `--port=${port}`,
      '--skip-name-resolve',
      '--innodb-buffer-pool-size=64M',
      ...SMALL,
      ...(options.settings ?? []),
    ],
    { env, stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let log = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    log = (log + text).slice(-4000);
  });
  await waitUntilReady(child, { socket, port }, () => log);
  return {
    address: { url: `mariadb://${USER}@127.0.0.1:${port}/`, password: PASSWORD },
    child,
    stop: async () => {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGTERM');
        await once(child, 'exit');
      }
      if (options.folder === undefined) rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** What a test does not need takes seconds to start and hundreds of megabytes. */
const SMALL = ['--performance-schema=OFF', '--skip-log-bin', '--innodb-log-file-size=16M', '--innodb-fast-shutdown=1'];

async function waitUntilReady(
  child: ChildProcess,
  { socket, port }: { readonly socket: string; readonly port: number },
  log: () => string,
): Promise<void> {
  const until = performance.now() + START_MS;
  for (;;) {
    if (child.exitCode !== null || child.signalCode !== null)
      throw new Error(`mariadbd ended with ${child.exitCode ?? child.signalCode}: ${log()}`);
    try {
      const root = await createConnection({ socketPath: socket, user: 'root' });
      await root.query(`create user if not exists ${USER}@'127.0.0.1' identified by '${PASSWORD}'`);
      await root.query(`grant all on *.* to ${USER}@'127.0.0.1'`);
      await root.end();
      await (await createConnection({ host: '127.0.0.1', port, user: USER, password: PASSWORD })).end();
      return;
    } catch (error) {
      if (performance.now() > until) throw new Error(`mariadbd does not answer: ${log()}`, { cause: error });
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/** The server that was given from outside, if there is one. */
export function givenMariadb(): MariadbAddress | undefined {
  const given = process.env.CHAINKEEP_TEST_MARIADB_URL;
  if (given === undefined || given === '') return undefined;
  const url = new URL(given);
  const password = decodeURIComponent(url.password);
  url.password = '';
  url.pathname = '/';
  return { url: url.href, password };
}
