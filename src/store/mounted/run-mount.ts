// Runs mount(8) and umount(8), with a time limit. The password goes through a pipe: it is in no argument, no variable and no file.

import { spawn } from 'node:child_process';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { Secret } from '../../plumbing/secret.ts';

export interface MountCall {
  readonly type: 'nfs' | 'cifs';
  readonly source: string;
  readonly mountPoint: string;
  readonly options: string;
  readonly password: Secret | undefined;
  /** Milliseconds. */
  readonly limit: number;
}

interface Ended {
  /** Undefined: ended by its time limit. */
  readonly code: number | undefined;
  readonly said: string;
}

/** Descriptor of the pipe in the called program; mount.cifs is told by PASSWD_FD. */
const PASSWORD_FD = 3;
/** What mount helpers say of a server that is not there, as against one that refuses. Of NFS 3 without its server the port mapper knows no version. */
const UNREACHABLE =
  /connection refused|no route|timed out|host is (down|unreachable)|network is unreachable|could not connect|could not resolve|failed to resolve|name or service|not registered|requested NFS version|error\((110|111|112|113|115)\)/i;

/** Throws REPOSITORY_OFFLINE for a server that cannot be reached, MOUNT_FAILED for whatever else mount(8) says. */
export async function runMount(call: MountCall): Promise<void> {
  const { type, source, mountPoint, options, password, limit } = call;
  const args = ['-t', type, '-o', options, '--', source, mountPoint];
  const { code, said } = await run('mount', args, limit, password ?? (type === 'cifs' ? new Secret('') : undefined));
  if (code === 0) return;
  const context = { source, mount_point: mountPoint, exit_code: code };
  if (code === undefined) {
    throw new ChainkeepError('REPOSITORY_OFFLINE', `${source} has not answered: it could not be mounted within ${limit / 1000} s`, {
      advice: 'is the server running, and is the network up? it is tried again when the repository is needed',
      retryable: true,
      context,
    });
  }
  const reason = said === '' ? `mount ended with ${code}` : said;
  const unreachable = UNREACHABLE.test(said);
  throw new ChainkeepError(unreachable ? 'REPOSITORY_OFFLINE' : 'MOUNT_FAILED', `${source} could not be mounted: ${reason}`, {
    advice: unreachable ? 'is the server running, does its name lead to it, and does it speak this version?' : adviceFor(said, type),
    retryable: unreachable,
    context,
  });
}

function adviceFor(said: string, type: MountCall['type']): string {
  if (/superuser|must be root|only root|not permitted/i.test(said)) {
    return 'only root can mount: run as root, or let the system mount the share and name the place with mount_point';
  }
  if (/helper program|bad option/i.test(said)) return `is the package ${type === 'nfs' ? 'nfs-common' : 'cifs-utils'} installed?`;
  return 'check server, share, user and password, and mount_options; "dmesg" often says more';
}

/** False where somebody still uses it. Anything else that goes wrong leaves it mounted too, and does no harm: the next user takes it over. */
export async function runUnmount(mountPoint: string, limit: number): Promise<boolean> {
  // Not canonicalized: looking at the path would ask a server that may hang.
  return (await run('umount', ['--no-canonicalize', '--', mountPoint], limit)).code === 0;
}

/** Never rejects for what the program does; only for one that cannot be started. */
function run(program: string, args: readonly string[], limit: number, secret?: Secret): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
      env: {
        PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin:/usr/bin:/bin`,
        LC_ALL: 'C',
        ...(secret && { PASSWD_FD: String(PASSWORD_FD) }),
      },
    });
    let said = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(0, 2000);
    });
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      // It may be in a call that not even this ends.
      resolve({ code: undefined, said });
    }, limit);
    child.on('error', (cause) => {
      clearTimeout(timer);
      reject(notStarted(program, cause));
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ code: code ?? 1, said: oneLine(said, secret) });
    });
    const pipe = child.stdio[PASSWORD_FD];
    if (!pipe || !('end' in pipe)) return;
    pipe.on('error', () => undefined); // a program that reads no password closes its end
    pipe.end(secret?.reveal() ?? '');
  });
}

function notStarted(program: string, cause: Error): ChainkeepError {
  return new ChainkeepError('MOUNT_FAILED', `the program ${program} cannot be started: ${cause.message}`, {
    advice: 'install the Debian package mount, or let the system mount the share and name the place with mount_point',
    cause,
  });
}

/** The first lines name the reason; what follows points to manuals. */
function oneLine(text: string, secret: Secret | undefined): string {
  const lines = text.split('\n').filter((line) => line.trim() !== '' && !/manual page|dmesg/.test(line));
  const joined = lines.slice(0, 2).join('; ');
  const value = secret?.reveal() ?? '';
  return value === '' ? joined : joined.replaceAll(value, String(secret));
}
