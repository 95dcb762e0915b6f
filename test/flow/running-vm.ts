// A process that has an image open as a running VM has: qemu-io, which takes QEMU's locks.

import { spawn } from 'node:child_process';
import { once } from 'node:events';

export interface RunningVm {
  /** Sends one command of qemu-io; resolves when it was done. */
  command(text: string): Promise<void>;
  stop(): Promise<void>;
}

export async function startQemuIo(path: string, format: 'raw' | 'qcow2'): Promise<RunningVm> {
  const child = spawn('qemu-io', ['-f', format, path], { stdio: ['pipe', 'pipe', 'inherit'], timeout: 30_000, killSignal: 'SIGKILL' });
  const ended = once(child, 'close');
  // A command's answer is what comes before the next prompt.
  const prompt = async (): Promise<void> => {
    for (let text = ''; !text.endsWith('qemu-io> '); ) text += String((await once(child.stdout, 'data'))[0]);
  };
  await prompt();
  return {
    command: async (text) => {
      child.stdin.write(`${text}\n`);
      await prompt();
    },
    stop: async () => {
      child.stdin.end('quit\n');
      await ended;
    },
  };
}
