// Ends a process that cannot end by itself: a system call on a storage that does not answer is given up, but its thread is waited for by Node.
// Only for that: whatever ends by itself is closed in order.

import { hasAbandonedWork } from '../plumbing/abandoned-work.ts';
import { loadNative } from '../plumbing/native.ts';

/** Returns where nothing is in the way of an orderly end. What was printed is with its reader before. */
export async function leaveAbandonedWork(code: number): Promise<void> {
  if (!hasAbandonedWork()) return;
  for (const stream of [process.stdout, process.stderr]) await new Promise((resolve) => stream.write('', resolve));
  // exit_group(2) does not wait for other threads; where there is no foreign function, Node's own way may wait for the storage.
  loadNative()?.symbol('void _exit(int)')?.(code);
  process.exit(code);
}
