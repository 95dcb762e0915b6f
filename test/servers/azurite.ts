// An Azure Blob server for tests: Azurite on a port of its own on 127.0.0.1, everything in memory, stopped by who started it.
// Its packages lie in a folder of their own and are installed when a test first needs them.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { ContainerClient, StorageSharedKeyCredential } from '@azure/storage-blob';
import { freePort } from './free-port.ts';

const FOLDER = fileURLToPath(new URL('../../azurite', import.meta.url));
const MAIN = join(FOLDER, 'node_modules/azurite/dist/src/blob/main.js');
const START_MS = 60_000;
const INSTALL_MS = 600_000;

/** For `beforeAll`: the first start on a machine installs. */
export const AZURITE_LIMIT_MS = INSTALL_MS + START_MS;

export interface AzuriteServer {
  /** `http://127.0.0.1:PORT`, without the account. */
  readonly endpoint: string;
  readonly account: string;
  readonly key: string;
  readonly child: ChildProcess;
  stop(): Promise<void>;
}

export async function startAzurite(): Promise<AzuriteServer> {
  await installAzurite();
  const folder = mkdtempSync(join(tmpdir(), 'chainkeep-azurite-'));
  const port = await freePort();
  // An account and a key of its own: a request for another server is refused.
  const account = `test${randomBytes(4).toString('hex')}`;
  const key = randomBytes(64).toString('base64');
  const args = [MAIN, '--blobHost', '127.0.0.1', '--blobPort', String(port), '--inMemoryPersistence'];
  const child = spawn(process.execPath, [...args, '--silent', '--skipApiVersionCheck', '--disableTelemetry'], {
    env: { ...process.env, AZURITE_ACCOUNTS: `${account}:${key}`, NODE_V8_COVERAGE: '' },
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      log = (log + text).slice(-4000);
    });
  }
  const endpoint = `http://127.0.0.1:${port}`;
  await waitUntilReady(endpoint, child, () => log);
  return {
    endpoint,
    account,
    key,
    child,
    stop: async () => {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGKILL'); // nothing of it is kept
        await once(child, 'exit');
      }
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A client of the vendor for a new container of this server. */
export async function makeContainer(server: Pick<AzuriteServer, 'endpoint' | 'account' | 'key'>, name: string): Promise<ContainerClient> {
  const client = containerClient(server, name);
  await client.create();
  return client;
}

export function containerClient(
  { endpoint, account, key }: Pick<AzuriteServer, 'endpoint' | 'account' | 'key'>,
  name: string,
): ContainerClient {
  return new ContainerClient(`${endpoint}/${account}/${name}`, new StorageSharedKeyCredential(account, key));
}

async function waitUntilReady(endpoint: string, child: ChildProcess, log: () => string): Promise<void> {
  const until = performance.now() + START_MS;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`azurite ended with ${child.exitCode}: ${log()}`);
    try {
      await fetch(endpoint);
      return;
    } catch (error) {
      if (performance.now() > until) throw new Error(`azurite does not answer: ${log()}`, { cause: error });
      await sleep(50);
    }
  }
}

/** Installs what the lock file says, once for all test processes of this clone. */
async function installAzurite(): Promise<void> {
  const lock = join(FOLDER, '.installing');
  const until = performance.now() + INSTALL_MS;
  while (!isInstalled()) {
    try {
      mkdirSync(lock);
    } catch (error) {
      if (!existsSync(lock)) continue; // it has just been given back
      if (performance.now() > until) throw new Error(`${lock} is held for too long: remove it when nobody is installing`, { cause: error });
      if (Date.now() - statSync(lock).mtimeMs > INSTALL_MS) rmdirSync(lock); // of a run that was killed
      await sleep(200);
      continue;
    }
    try {
      if (!isInstalled()) {
        await promisify(execFile)('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: FOLDER });
      }
    } finally {
      rmdirSync(lock);
    }
  }
}

/** Is the version there that the lock file names, and completely? npm writes its own list last. */
function isInstalled(): boolean {
  if (!existsSync(MAIN) || !existsSync(join(FOLDER, 'node_modules/.package-lock.json'))) return false;
  const installed: { version: string } = JSON.parse(readFileSync(join(FOLDER, 'node_modules/azurite/package.json'), 'utf8'));
  const wanted: { dependencies: { azurite: string } } = JSON.parse(readFileSync(join(FOLDER, 'package.json'), 'utf8'));
  return installed.version === wanted.dependencies.azurite;
}
