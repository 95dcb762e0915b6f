// What is to be mounted where, as plain data: from the settings of a repository. It must not look at the machine.

import { createHash } from 'node:crypto';
import { join, resolve } from 'node:path';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { Secret } from '../../plumbing/secret.ts';
import { numberIn, textIn } from '../config-values.ts';
import type { StoreConfig } from '../store-kind.ts';

/** What the mount table must say of the mount point. */
export interface ExpectedMount {
  readonly types: readonly string[];
  /** `server:/export`, `//server/share`, or what the system calls it. */
  readonly source: string;
}

export interface MountPlan {
  readonly expected: ExpectedMount;
  readonly mountPoint: string;
  /** Ours alone: whatever is mounted there was mounted by Chainkeep. */
  readonly ownFolder: boolean;
  /** Holds the lock of mounting and the note of who mounted; absent where only the system mounts. */
  readonly stateFolder?: string;
  /** How mount(8) is called; absent where only the system mounts. */
  readonly mount?: { readonly type: 'nfs' | 'cifs'; readonly options: string };
  /** Milliseconds that one call may take. */
  readonly timeLimit: number;
}

export interface MountSettings {
  readonly plan: MountPlan;
  readonly password: Secret | undefined;
}

/** Nobody gets a device, a program or rights from a folder of backups. */
const SAFE = 'nosuid,nodev,noexec';
/**
 * `retry=0`: mount answers instead of trying for two minutes. The others: what one machine commits, another one sees at once, for the price of
 * asking the server about folders each time.
 */
const NFS_OPTIONS = `${SAFE},retry=0,lookupcache=positive,acdirmin=0,acdirmax=0`;
const CIFS_OPTIONS = `${SAFE},file_mode=0600,dir_mode=0700,actimeo=0`;
const TIME_LIMIT_S = 60;

/** `home`: where the default mount points are. CONFIG_INVALID for settings that no schema has seen. */
export function planMount(type: 'nfs' | 'cifs', config: StoreConfig, home: string | undefined): MountSettings {
  const text = (name: string): string | undefined => textIn(config, name);
  const source = type === 'nfs' ? nfsSource(text) : `//${needed(text, 'server')}/${needed(text, 'share_name')}`;
  const timeLimit = 1000 * numberIn(config, 'time_limit_seconds', TIME_LIMIT_S);
  const mountPoint = text('mount_point');
  const system = text('system_mount');
  if (system !== undefined) {
    const [fileSystem = '', ...rest] = system.split(' ');
    const expected = { types: [fileSystem], source: rest.join(' ') };
    const plan = { expected, mountPoint: resolve(needed(text, 'mount_point')), ownFolder: false, timeLimit };
    return { plan, password: undefined };
  }
  const options = type === 'nfs' ? nfsOptions(text) : cifsOptions(text);
  const stateFolder = home === undefined ? undefined : join(home, 'mounts', folderName(source, options));
  if (mountPoint === undefined && stateFolder === undefined) {
    throw new ChainkeepError('CONFIG_INVALID', 'a share needs the setting "mount_point" where there is no home');
  }
  const plan: MountPlan = {
    expected: { types: type === 'nfs' ? ['nfs', 'nfs4'] : ['cifs', 'smb3'], source },
    mountPoint: mountPoint === undefined ? join(stateFolder ?? '', 'share') : resolve(mountPoint),
    ownFolder: mountPoint === undefined,
    ...(stateFolder !== undefined && { stateFolder }),
    mount: { type, options },
    timeLimit,
  };
  return { plan, password: config.password instanceof Secret ? checkedPassword(config.password) : undefined };
}

type Text = (name: string) => string | undefined;

function nfsSource(text: Text): string {
  const server = needed(text, 'server');
  // A colon ends the name of the server, so an address that has some stands in brackets.
  return `${server.includes(':') && !server.startsWith('[') ? `[${server}]` : server}:${needed(text, 'export_path')}`;
}

/** `nolock`: nothing here locks files on the server, and NFS 3 would need one more daemon for it. */
function nfsOptions(text: Text): string {
  const version = text('nfs_version') ?? '4.2';
  return joined(`vers=${version}`, version === '3' ? 'nolock' : '', NFS_OPTIONS, text('mount_options'));
}

function cifsOptions(text: Text): string {
  const domain = text('domain');
  const user = `username=${needed(text, 'username')}`;
  return joined(user, domain === undefined ? '' : `domain=${domain}`, CIFS_OPTIONS, text('mount_options'));
}

function joined(...parts: readonly (string | undefined)[]): string {
  return parts.filter((part) => part !== undefined && part !== '').join(',');
}

/** Readable, and different for other options: a changed setting must not be served by the old mount. */
function folderName(source: string, options: string): string {
  const readable = source
    .replaceAll(/[^A-Za-z0-9.-]+/g, '-')
    .replaceAll(/^-+|-+$/g, '')
    .slice(0, 60);
  return `${readable}-${createHash('sha256').update(`${source}\n${options}`).digest('hex').slice(0, 12)}`;
}

function needed(text: Text, name: string): string {
  const value = text(name);
  if (value !== undefined) return value;
  throw new ChainkeepError('CONFIG_INVALID', `a share needs the setting "${name}"`, { advice: 'register it again with it' });
}

/** mount.cifs reads it up to the end of a line. */
function checkedPassword(password: Secret): Secret {
  if (!/[\r\n]/.test(password.reveal())) return password;
  throw new ChainkeepError('CONFIG_INVALID', 'the password has a line break, which mount cannot be given', {
    advice: 'change the password, or let the system mount the share',
  });
}
