// A fault of QEMU that a backup must not run into: older ones abort, and the machine with them, when a client leaves the NBD export of a disk that is
// in an iothread (`nbd_blockdev_client_closed: Assertion qemu_in_main_thread()`; met with 7.2). Since 9.0 QEMU keeps its clients in the main thread.

import { ChainkeepError } from '../plumbing/errors.ts';

const MENDED_IN = 9;

/** Throws SOURCE_INVALID. `version` as QEMU says it: `7.2.22`. */
export function refuseIothreads(machine: string, { iothreads, version }: { readonly iothreads: number; readonly version: string }): void {
  if (iothreads === 0 || Number.parseInt(version, 10) >= MENDED_IN) return;
  throw new ChainkeepError('SOURCE_INVALID', `${machine} has iothreads, and QEMU ${version} would die with the end of its backup`, {
    advice: `run it without iothreads or with QEMU ${MENDED_IN}.0 or newer, or back up its disks while it is shut down`,
    context: { machine, version },
  });
}
