// Which processes of this machine have a file open, as far as /proc shows them to this user.
// It must not be taken for a proof that nobody has: another user's process, or one of another container, is not seen.

import { readdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';

export interface FileUser {
  readonly pid: number;
  /** Its command line, cut. */
  readonly command: string;
}

const LONGEST_COMMAND = 100;

/** Without this process. */
export function processesWithOpen(path: string): readonly FileUser[] {
  const real = realpathSync(path);
  const pids = entries('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  return pids.filter((pid) => hasOpen(pid, real)).map((pid) => ({ pid: Number(pid), command: commandOf(pid) }));
}

function hasOpen(pid: string, path: string): boolean {
  return entries(`/proc/${pid}/fd`).some((descriptor) => target(`/proc/${pid}/fd/${descriptor}`) === path);
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').join(' ').trim().slice(0, LONGEST_COMMAND);
  } catch {
    return ''; // it has just ended
  }
}

function target(link: string): string | undefined {
  try {
    return readlinkSync(link);
  } catch {
    return undefined; // closed meanwhile
  }
}

function entries(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // not Linux, another user's process, or one that has just ended
  }
}
