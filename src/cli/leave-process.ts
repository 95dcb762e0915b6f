// Ends a process that cannot end by itself. Only for that: whatever ends by itself is closed in order. Two things are in the way of an orderly end:
// a system call on a storage that does not answer is given up, but its thread is waited for by Node; and koffi syncs stderr when it is unloaded, and
// where that fails (a log on a full disk) waits for itself, for ever.

import { fsyncSync, readFileSync } from 'node:fs';
import { hasAbandonedWork } from '../plumbing/abandoned-work.ts';
import { systemCode } from '../plumbing/errors.ts';
import { loadNative } from '../plumbing/native.ts';

/** Returns where nothing is in the way of an orderly end. What was printed is with its reader before. */
export async function leaveWhereStuck(code: number): Promise<void> {
  if (!hasAbandonedWork() && !(isKoffiLoaded() && isUnsyncable(process.stderr.fd))) return;
  for (const stream of [process.stdout, process.stderr]) await new Promise((resolve) => stream.write('', resolve));
  // exit_group(2) does not wait for other threads; where there is no foreign function, Node's own way may wait for the storage.
  loadNative()?.symbol('void _exit(int)')?.(code);
  process.exit(code);
}

/** By whatever thread. */
function isKoffiLoaded(): boolean {
  try {
    return readFileSync('/proc/self/maps', 'latin1').includes('koffi.node');
  } catch {
    return true; // a system that does not tell
  }
}

/** What cannot be synced by its nature, such as a pipe or a terminal, koffi passes over. */
const NOT_TO_SYNC: ReadonlySet<string | undefined> = new Set(['EINVAL', 'EROFS', 'ENOTSUP']);

function isUnsyncable(fd: number): boolean {
  try {
    fsyncSync(fd);
    return false;
  } catch (error) {
    return !NOT_TO_SYNC.has(systemCode(error));
  }
}
