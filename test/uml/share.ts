// The shares of a guest and what can be done with their servers. Runs inside of user-mode-linux only (test/servers/uml.ts).

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { Secret } from '../../src/plumbing/secret.ts';
import type { StoreConfig } from '../../src/store/store-kind.ts';

export interface Share {
  readonly type: 'nfs' | 'cifs';
  readonly config: StoreConfig;
  /** The same for the command line. */
  readonly options: readonly string[];
  /** As the mount table has it. */
  readonly source: string;
  /** The server does not answer from now on, until `wake`. */
  sleep(): void;
  wake(): void;
}

/** What the server shows: a folder of the guest. */
export const EXPORT = '/mnt/srv/export';
export const PASSWORD = 'a pass,word';

export function nfsShare(version: '3' | '4.2'): Share {
  // NFS 4 names folders from the root of what is exported, NFS 3 as the server does.
  const path = version === '3' ? EXPORT : '/export';
  const config = { server: '127.0.0.1', export_path: path, nfs_version: version, time_limit_seconds: 5 };
  return {
    type: 'nfs',
    config,
    options: optionsOf('nfs', config),
    source: `127.0.0.1:${path}`,
    sleep: () => run('rpc.nfsd', '0'),
    wake: () => {
      run('rpc.nfsd', '-G', '10', '-L', '10', '4');
      execFileSync('sh', ['-c', 'echo Y >/proc/fs/nfsd/v4_end_grace || true']);
    },
  };
}

export function smbShare(): Share {
  const config = { server: '127.0.0.1', share_name: 'bk', username: 'root', time_limit_seconds: 5, mount_options: 'vers=3.1.1' };
  const signal = (name: string): void => run('pkill', `-${name}`, '-x', 'smbd'); // all of the guest's, which has no other
  return {
    type: 'cifs',
    config: { ...config, password: new Secret(PASSWORD) },
    options: [...optionsOf('cifs', config), '--secret', 'password=env:SHARE_PASSWORD'],
    source: '//127.0.0.1/bk',
    sleep: () => signal('STOP'),
    wake: () => signal('CONT'),
  };
}

function optionsOf(type: string, config: Readonly<Record<string, string | number>>): readonly string[] {
  return ['--type', type, ...Object.entries(config).flatMap(([name, value]) => ['--set', `${name}=${value}`])];
}

function run(program: string, ...args: readonly string[]): void {
  execFileSync(program, args, { stdio: 'ignore', timeout: 20_000 });
}

/** Mount points of this source at this moment. */
export function mountedAt(source: string): readonly string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.split(' - ')[1]?.split(' ')[1] === source)
    .map((line) => line.split(' ')[4] ?? '');
}
