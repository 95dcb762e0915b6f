// Runs whole processes side by side and measures wall time and peak memory. Interleaved, so that a noisy machine is noisy for both.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

export interface Sample {
  readonly seconds: number;
  /** Peak resident memory in MiB, as the kernel counted it (VmHWM), children not included. */
  readonly peakMiB: number;
}

export type Command = readonly [string, ...string[]];

/** Throws when the command fails: a failed run is no measurement. */
export function measure(command: Command, env: Readonly<Record<string, string>> = {}): Promise<Sample> {
  return new Promise((resolve, reject) => {
    const [file, ...args] = command;
    const began = performance.now();
    const child = spawn(file, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'ignore', 'pipe'] });
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => {
      stderr = `${stderr}${chunk.toString()}`.slice(-2000);
    });
    let peakKiB = 0;
    const timer = setInterval(() => {
      peakKiB = Math.max(peakKiB, peakOf(child));
    }, 10);
    child.on('error', reject);
    child.on('close', (code) => {
      clearInterval(timer);
      const seconds = (performance.now() - began) / 1000;
      if (code === 0) resolve({ seconds, peakMiB: peakKiB / 1024 });
      else reject(new Error(`${command.join(' ')} ended with ${code}: ${stderr}`));
    });
  });
}

function peakOf(child: ChildProcess): number {
  try {
    return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1] ?? 0);
  } catch {
    return 0; // it has just ended
  }
}

export interface Side {
  readonly name: string;
  /** Not measured. */
  readonly before?: () => Promise<void> | void;
  readonly run: () => Promise<Sample>;
  readonly after?: () => Promise<void> | void;
}

export interface Result {
  readonly name: string;
  readonly seconds: number;
  readonly peakMiB: number;
}

/** Medians of `runs` rounds, each side once a round, every other round backwards; one round before that does not count. */
export async function compare(sides: readonly Side[], runs: number): Promise<readonly Result[]> {
  const samples = new Map<string, Sample[]>(sides.map((side) => [side.name, []]));
  for (let round = 0; round <= runs; round++) {
    for (const side of round % 2 === 0 ? sides : sides.toReversed()) {
      await side.before?.();
      settle();
      const sample = await side.run();
      await side.after?.();
      if (round > 0) samples.get(side.name)?.push(sample);
    }
  }
  return sides.map(({ name }) => {
    const all = samples.get(name) ?? [];
    return { name, seconds: median(all.map((sample) => sample.seconds)), peakMiB: Math.max(...all.map((sample) => sample.peakMiB)) };
  });
}

/** What the side before has left to the system (a journal to write) is not the next one's work. */
function settle(): void {
  spawnSync('sync');
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? (sorted[middle] ?? 0) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}
