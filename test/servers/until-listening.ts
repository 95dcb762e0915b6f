// Waits for a server that was started: the file of its socket is there a moment before anybody listens at it.

import type { ChildProcess } from 'node:child_process';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const LIMIT_MS = 60_000;
const LOOK_EVERY_MS = 10;

/** `why` is asked when it ends or does not come up: what it has said, for the error. */
export async function untilListening(socket: string, child: ChildProcess, why: () => string): Promise<void> {
  for (let waited = 0; !(await listens(socket)); waited += LOOK_EVERY_MS) {
    if (child.exitCode !== null || waited > LIMIT_MS) throw new Error(`${child.spawnfile} did not start: ${why()}`);
    await sleep(LOOK_EVERY_MS);
  }
}

function listens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect({ path });
    probe.once('error', () => resolve(false));
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
  });
}
