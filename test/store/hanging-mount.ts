// A folder whose storage never answers, as a dead NFS server leaves it: a FUSE mount that nobody serves. Needs root.

import { spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';

export interface HangingMount {
  /** Whoever still waits gets an error, and the folder is as it was. */
  readonly dispose: () => void;
}

/** Everything that looks into `path` hangs from now on. Answers the reason when that cannot be made here. */
export function mountHanging(path: string): HangingMount | string {
  let device: number;
  try {
    device = openSync('/dev/fuse', 'r+');
  } catch (error) {
    return `no FUSE here: ${error instanceof Error ? error.message : error}`;
  }
  // -i: no helper program. The kernel speaks to descriptor 3, and is never answered.
  const args = ['-i', '-t', 'fuse', 'hanging', path, '-o', 'fd=3,rootmode=40000,user_id=0,group_id=0'];
  const { status, stderr } = spawnSync('mount', args, { stdio: ['ignore', 'ignore', 'pipe', device], encoding: 'utf8' });
  if (status !== 0) {
    closeSync(device);
    return `mount: ${stderr}`;
  }
  return {
    dispose: () => {
      closeSync(device); // the last descriptor: the connection ends
      spawnSync('umount', ['-l', path]);
    },
  };
}
