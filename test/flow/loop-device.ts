// A block device for tests: a file behind a loop device. Needs root; where the system does not allow it, it says why.

import { execFileSync } from 'node:child_process';

export interface LoopDevice {
  readonly path: string;
  /** Tells the device that its file has another size now. */
  resize(): void;
  detach(): void;
}

function losetup(...args: readonly string[]): string {
  return execFileSync('losetup', args, { timeout: 10_000, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** The device, or a plain sentence why there is none. */
export function attachLoop(file: string): LoopDevice | string {
  let path: string;
  try {
    path = losetup('--find', '--show', file).trim();
  } catch (error) {
    return `there are no loop devices here (${error instanceof Error ? (error.message.split('\n')[1] ?? error.message) : error})`;
  }
  return {
    path,
    resize: () => void losetup('--set-capacity', path),
    detach: () => void losetup('--detach', path),
  };
}
