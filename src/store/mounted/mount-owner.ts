// Who mounted a share, and one at a time who mounts and unmounts it: several processes of this machine use the same mount.
// The kernel itself counts the users: each holds a folder of the mount open, and umount refuses while anybody does.

import { spawn } from 'node:child_process';
import { constants, readFileSync, readlinkSync } from 'node:fs';
import { open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { makeFolder } from '../../plumbing/make-folder.ts';
import { mountIdOf } from './mount-table.ts';

/** Runs `work` while no other process mounts or unmounts with this state folder. REPOSITORY_OFFLINE when that takes too long. */
export async function withMountLock<T>(folder: string, limit: number, work: () => Promise<T>): Promise<T> {
  makeFolder(folder, 0o700);
  const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await lock(handle.fd, limit);
    return await work();
  } finally {
    await handle.close(); // and with it the lock; a killed process gives it back the same way
  }
}

/** flock(1) locks the open folder that it inherits, and so locks it for us: the lock belongs to what is open, not to a process. */
function lock(descriptor: number, limit: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const seconds = String(Math.max(1, Math.round(limit / 1000)));
    const child = spawn('flock', ['--exclusive', '--timeout', seconds, '3'], { stdio: ['ignore', 'ignore', 'ignore', descriptor] });
    child.on('error', (cause) =>
      reject(new ChainkeepError('MOUNT_FAILED', `the program flock cannot be started: ${cause.message}`, { cause })),
    );
    child.on('close', (code) => {
      if (code === 0) return resolve();
      const what = `another process has been mounting this share for ${seconds} s`;
      reject(new ChainkeepError('REPOSITORY_OFFLINE', what, { advice: 'does the server answer? it is tried again', retryable: true }));
    });
  });
}

const NOTE = 'mounted-by-chainkeep.json';

/** Notes that the mount of this open folder is ours to unmount, also for other processes and after a crash of this one. */
export async function noteMount(stateFolder: string, descriptor: number): Promise<void> {
  await writeFile(join(stateFolder, NOTE), JSON.stringify(identityOf(descriptor)), { mode: 0o600 });
}

/** A number of a mount is given again after it is gone: the note also names the boot and the namespace, and goes with the mount. */
export function isNotedMount(stateFolder: string, descriptor: number): boolean {
  try {
    return readFileSync(join(stateFolder, NOTE), 'utf8') === JSON.stringify(identityOf(descriptor));
  } catch {
    return false; // no note, or none that can be read: then it is not ours to unmount
  }
}

export async function dropNote(stateFolder: string): Promise<void> {
  await rm(join(stateFolder, NOTE), { force: true });
}

function identityOf(descriptor: number): Readonly<Record<string, string | number>> {
  const mount = mountIdOf(descriptor);
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  return { mount, boot, namespace: readlinkSync('/proc/self/ns/mnt') };
}
