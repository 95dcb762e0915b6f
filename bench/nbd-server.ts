// A server that is started for a benchmark, told apart from others by its socket, and the client that reads all of an export.

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { type Command, compare, measure, type Result, type Side } from './measure.ts';

export interface Served {
  /** For NBD clients. */
  readonly address: string;
  readonly child: ChildProcess;
  stop(): Promise<void>;
}

/** A server that says nothing, with the export `disk`. */
export async function serve(socket: string, [file, ...args]: Command): Promise<Served> {
  const child = spawn(file, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const stop = stopper(child);
  while (!existsSync(socket)) {
    if (child.exitCode !== null) throw new Error(`${file} did not start`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  // The file of a socket is there a moment before anybody listens at it.
  await new Promise((resolve) => setTimeout(resolve, 200));
  return { address: `nbd+unix:///disk?socket=${socket}`, child, stop };
}

/** A server whose first line is its address. */
export async function serveAddress([file, ...args]: Command): Promise<Served> {
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const stop = stopper(child);
  for await (const address of createInterface({ input: child.stdout })) return { address, child, stop };
  throw new Error(`${file} did not start`);
}

function stopper(child: ChildProcess): () => Promise<void> {
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  return async () => {
    child.kill('SIGTERM');
    await ended;
  };
}

export function qemuNbd(socket: string, format: string, file: string): Command {
  return ['qemu-nbd', '-t', '-r', '-e', '32', '-f', format, '-x', 'disk', '-k', socket, file];
}

export function readAll(name: string, address: string, ...more: string[]): Side {
  return { name, run: () => measure(['nbdcopy', '--requests=64', ...more, address, 'null:']) };
}

/** Prints both, and how many times the rate of the second the first has. */
export async function printCompared(title: string, sides: readonly [Side, Side], runs: number): Promise<readonly Result[]> {
  console.log(title);
  const results = await compare(sides, runs);
  for (const { name, seconds, peakMiB } of results)
    console.log(`  ${seconds.toFixed(2).padStart(6)} s  ${peakMiB.toFixed(0).padStart(5)} MiB  ${name}`);
  console.log(`  => ${((results[1]?.seconds ?? 0) / (results[0]?.seconds ?? 1)).toFixed(2)} times the rate of ${results[1]?.name}`);
  return results;
}

/** Of the server process, as the kernel counted it. */
export function peakMiB({ child }: Served): number {
  return Math.round(Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1] ?? 0) / 1024);
}
