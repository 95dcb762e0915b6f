// A Ceph cluster of one machine with its S3 gateway, for tests: own folder, own ports on 127.0.0.1, everything in memory.
// With CHAINKEEP_TEST_S3_URL (http://KEY:SECRET@HOST:PORT) that server is used instead; its user must be allowed to make buckets.
// It must be stopped in the order gateway, storage, monitor: the others wait for a monitor that is gone.

import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from './free-port.ts';

/** Plain data, so that it can be handed to other processes. */
export interface S3Address {
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

export interface RgwServer {
  readonly address: S3Address;
  stop(): Promise<void>;
}

const START_MS = 90_000;
const STOP_MS = 20_000;
const ACCESS_KEY = 'test-access-key';
const SECRET_KEY = 'only-for-tests';

/** The server that was given from outside, if there is one. */
export function givenS3(): S3Address | undefined {
  const given = process.env.CHAINKEEP_TEST_S3_URL;
  if (given === undefined || given === '') return undefined;
  const { origin, username, password } = new URL(given);
  return { endpoint: origin, accessKeyId: decodeURIComponent(username), secretAccessKey: decodeURIComponent(password) };
}

export async function startRgw(): Promise<RgwServer> {
  // Short: the path of a socket has at most 107 bytes.
  const folder = mkdtempSync(join(tmpdir(), 'rgw-'));
  const [monitor, port] = [await freePort(), await freePort()];
  for (const name of ['mon', 'osd0', 'mgr', 'rgw']) mkdirSync(join(folder, name));
  const config = join(folder, 'ceph.conf');
  writeFileSync(config, configuration(folder, monitor, port));
  const stop = async (): Promise<void> => {
    for (const pidFile of ['client.admin.pid', 'osd.0.pid', 'mon.a.pid']) await endProcess(join(folder, pidFile));
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    startCluster(folder, config, monitor);
    const endpoint = `http://127.0.0.1:${port}`;
    await waitUntilReady(endpoint);
    const user = ['user', 'create', '--uid=test', '--display-name=test', `--access-key=${ACCESS_KEY}`, `--secret-key=${SECRET_KEY}`];
    tool('radosgw-admin', '-c', config, ...user);
    return { address: { endpoint, accessKeyId: ACCESS_KEY, secretAccessKey: SECRET_KEY }, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function startCluster(folder: string, config: string, monitor: number): void {
  const keyring = join(folder, 'keyring');
  const monmap = join(folder, 'monmap');
  const fsid = /fsid = (\S+)/.exec(readFileSync(config, 'utf8'))?.[1] ?? '';
  tool('ceph-authtool', '--create-keyring', keyring, '--gen-key', '-n', 'mon.', '--cap', 'mon', 'allow *');
  const all = ['mon', 'osd', 'mgr'].flatMap((service) => ['--cap', service, 'allow *']);
  tool('ceph-authtool', keyring, '--gen-key', '-n', 'client.admin', ...all);
  tool('monmaptool', '--create', '--addv', 'a', `[v2:127.0.0.1:${monitor}]`, '--fsid', fsid, monmap);
  tool('ceph-mon', '-c', config, '--mkfs', '-i', 'a', '--monmap', monmap, '--keyring', keyring);
  tool('ceph-mon', '-c', config, '-i', 'a');
  const secret = tool('ceph-authtool', '--gen-print-key').trim();
  const disk = randomUUID();
  execFileSync('ceph', ['-c', config, 'osd', 'new', disk, '-i', '-'], {
    input: JSON.stringify({ cephx_secret: secret }),
    stdio: ['pipe', 'ignore', 'pipe'],
    timeout: START_MS,
  });
  tool('ceph-authtool', '--create-keyring', join(folder, 'osd0', 'keyring'), '-n', 'osd.0', '--add-key', secret);
  tool('ceph-osd', '-c', config, '-i', '0', '--mkfs', '--osd-uuid', disk);
  tool('ceph-osd', '-c', config, '-i', '0');
  tool('radosgw', '-c', config, '-n', 'client.admin');
}

function configuration(folder: string, monitor: number, port: number): string {
  return `[global]
fsid = ${randomUUID()}
mon host = v2:127.0.0.1:${monitor}/0
public network = 127.0.0.0/8
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
ms bind msgr1 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon osd min in ratio = 0
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 8589934592
mon data avail warn = 0
run dir = ${folder}
admin socket = ${folder}/$name.asok
log file = ${folder}/$name.log
pid file = ${folder}/$name.pid
mon data = ${folder}/mon
osd data = ${folder}/osd0
mgr data = ${folder}/mgr
rgw data = ${folder}/rgw
keyring = ${folder}/keyring
crash dir = ${folder}/crash
mon pg warn min per osd = 0
rgw frontends = beast endpoint=127.0.0.1:${port}
rgw enable usage log = false
# Keys for encryption without a key server and without TLS.
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = test-key=YmluY3Rlc3QtMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM=
rgw gc obj min wait = 1
rgw gc processor period = 2
[osd]
keyring = ${folder}/osd0/keyring
[osd.0]
host = localhost
osd crush initial weight = 1
`;
}

async function waitUntilReady(endpoint: string): Promise<void> {
  const until = performance.now() + START_MS;
  for (;;) {
    const answered = await fetch(endpoint).then(
      (response) => response.arrayBuffer().then(() => true),
      () => false,
    );
    if (answered) return;
    if (performance.now() > until) throw new Error('the S3 gateway does not answer');
    await sleep(100);
  }
}

function tool(name: string, ...args: readonly string[]): string {
  return execFileSync(name, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], timeout: START_MS });
}

async function endProcess(pidFile: string): Promise<void> {
  let pid: number;
  try {
    pid = Number(readFileSync(pidFile, 'utf8'));
  } catch {
    return; // it never started
  }
  const until = performance.now() + STOP_MS;
  for (let signal: NodeJS.Signals | 0 = 'SIGTERM'; isAlive(pid, signal); signal = performance.now() > until ? 'SIGKILL' : 0)
    await sleep(100);
}

function isAlive(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}
