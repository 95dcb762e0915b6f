// The judges of NBD: real servers, started in a folder of their own and stopped by the test, and real clients with a time limit.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll } from 'vitest';
import { untilListening } from '../servers/until-listening.ts';

const LIMIT_MS = 60_000;
const call = promisify(execFile);

export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A folder that is gone when the tests of the file are done; answers paths in it. Short, because paths of sockets must be. */
export function peerFolder(): (name: string) => string {
  const folder = mkdtempSync(join(tmpdir(), 'ck-nbd-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return (name) => join(folder, name);
}

/** Runs a program to its end. Asynchronous: the server it talks to may live in this process. */
export async function runTool(tool: string, ...args: string[]): Promise<Output> {
  try {
    const { stdout, stderr } = await call(tool, args, { timeout: LIMIT_MS, encoding: 'utf8' });
    return { code: 0, stdout, stderr };
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && typeof error.code === 'number')) throw error;
    const { code } = error;
    const text = (value: unknown): string => (typeof value === 'string' ? value : '');
    return { code, stdout: text('stdout' in error && error.stdout), stderr: text('stderr' in error && error.stderr) };
  }
}

export interface Peer {
  /** `nbd+unix:///NAME?socket=PATH` */
  address(exportName?: string, parameters?: string): string;
  readonly socket: string;
  stop(): Promise<void>;
}

const started = new Set<ChildProcess>();

/** Starts a server that listens at `socket`, and waits until it does. */
export async function startServer(socket: string, tool: 'qemu-nbd' | 'nbdkit', args: readonly string[]): Promise<Peer> {
  const own = tool === 'nbdkit' ? ['-f', '-U', socket, '--exit-with-parent'] : ['-t', '-k', socket];
  const child = spawn(tool, [...own, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  started.add(child);
  let stderr = '';
  child.stderr?.on('data', (text: Buffer) => {
    stderr += text.toString();
  });
  const ended = once(child, 'exit');
  await untilListening(socket, child, () => `${args.join(' ')}: ${stderr}`);
  return {
    socket,
    address: (exportName = '', parameters = '') => `nbd+unix:///${exportName}?socket=${socket}${parameters}`,
    stop: async () => {
      // Not politely: nbdkit waits for its clients, who may be waiting for something else.
      child.kill('SIGKILL');
      await ended;
      started.delete(child);
      rmSync(socket, { force: true });
    },
  };
}

process.on('exit', () => {
  for (const child of started) child.kill('SIGKILL');
});
