// A private Samba server in a folder, on an address of its own (127.x.y.z, port 445), and its share mounted by 'smbnetfs', which asks no kernel.
// It touches nothing of a Samba that the machine may have.

import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export const SMB_USER = 'root';
export const SMB_PASSWORD = 'a pass,word';
const START_LIMIT_MS = 30_000;
const ENV = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };

export interface Smbd {
  readonly address: string;
  /** What the share `bk` shows. */
  readonly share: string;
  /** It answers nobody from now on, until `thaw`. */
  freeze(): void;
  thaw(): void;
  stop(): Promise<void>;
}

/** The port is 445 because smbnetfs knows no other. Needs root. */
export async function startSmbd(folder: string): Promise<Smbd> {
  const address = `127.77.${(process.pid >> 8) & 255}.${process.pid & 255 || 1}`;
  for (const name of ['share', 'priv', 'lock', 'state', 'cache', 'pid', 'ncalrpc']) mkdirSync(join(folder, name), { recursive: true });
  const config = join(folder, 'smb.conf');
  writeFileSync(config, smbConfig(folder, address));
  execFileSync('smbpasswd', ['-c', config, '-s', '-a', SMB_USER], {
    input: `${SMB_PASSWORD}\n${SMB_PASSWORD}\n`,
    env: ENV,
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  // In a group of its own: at its end it terminates its whole group.
  const server = spawn('smbd', ['-s', config, '-F', '--no-process-group'], { stdio: 'ignore', env: ENV, detached: true });
  const ended = once(server, 'exit');
  await untilConnected(address);
  const signal = (name: NodeJS.Signals): void => void process.kill(-(server.pid ?? 0), name); // with the processes of its clients
  return {
    address,
    share: join(folder, 'share'),
    freeze: () => signal('SIGSTOP'),
    thaw: () => signal('SIGCONT'),
    stop: async () => {
      signal('SIGCONT');
      server.kill('SIGTERM');
      await ended;
    },
  };
}

function smbConfig(folder: string, address: string): string {
  const folders = [
    ['private dir', 'priv'],
    ['lock directory', 'lock'],
    ['state directory', 'state'],
    ['cache directory', 'cache'],
    ['pid directory', 'pid'],
    ['ncalrpc dir', 'ncalrpc'],
  ].map(([name, place]) => `${name} = ${folder}/${place}`);
  return `[global]
server role = standalone server
workgroup = CK
netbios name = CKTEST
interfaces = ${address}/8
bind interfaces only = yes
smb ports = 445
disable netbios = yes
map to guest = never
server min protocol = SMB2_10
log file = ${folder}/log.%m
load printers = no
printing = bsd
disable spoolss = yes
passdb backend = tdbsam:${folder}/priv/passdb.tdb
unix password sync = no
strict sync = yes
${folders.join('\n')}
[bk]
path = ${folder}/share
read only = no
force user = root
`;
}

async function untilConnected(address: string): Promise<void> {
  for (const end = Date.now() + START_LIMIT_MS; ; await sleep(50)) {
    const socket = connect(445, address);
    const connected = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (connected) return;
    if (Date.now() > end) throw new Error('smbd did not start');
  }
}

export interface SmbMount {
  /** Where the share is mounted, and nothing else. */
  readonly path: string;
  stop(): Promise<void>;
}

/** Mounts the share through FUSE, as a user without rights on the machine might. */
export async function mountSmbnetfs(folder: string, server: Smbd): Promise<SmbMount> {
  const [all, path, config] = [join(folder, 'all'), join(folder, 'mounted'), join(folder, '.smb/smbnetfs.conf')];
  for (const made of [all, path, join(folder, '.smb')]) mkdirSync(made, { recursive: true });
  writeFileSync(config, `auth "${server.address}" "${SMB_USER}" "${SMB_PASSWORD}"\nhost ${server.address} visible=true\n`, { mode: 0o600 });
  const daemon = spawn('smbnetfs', [all, '-f', '-o', `config=${config}`], { stdio: 'ignore', env: { ...ENV, HOME: folder } });
  const ended = once(daemon, 'exit');
  // It shows every server and share below one mount; a repository wants a mount of its own.
  for (const end = Date.now() + START_LIMIT_MS; ; await sleep(50)) {
    const { status, stderr } = spawnSync('mount', ['--bind', join(all, server.address, 'bk'), path], { encoding: 'utf8', timeout: 10_000 });
    if (status === 0) break;
    if (Date.now() > end) throw new Error(`smbnetfs did not start: ${stderr}`);
  }
  return {
    path,
    stop: async () => {
      spawnSync('umount', ['--lazy', path]);
      spawnSync('umount', ['--lazy', all]);
      await ended;
    },
  };
}
