// Runs the program as a user does: through the launcher, in a process of its own, with a home of its own.

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { onTestFinished } from 'vitest';

export const LAUNCHER = resolve('chainkeep');
const TIME_LIMIT_MS = 60_000;

export interface Run {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly input?: string;
}

/** A folder that is gone after the test. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'chainkeep-cli-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export function startChainkeep(args: readonly string[], options: RunOptions = {}): ChildProcessWithoutNullStreams {
  const env = { ...process.env, NO_COLOR: '1', CHAINKEEP_DEBUG: undefined, ...options.env };
  return spawn(LAUNCHER, args, { cwd: options.cwd, env, timeout: TIME_LIMIT_MS, killSignal: 'SIGKILL' });
}

export function whenEnded(child: ChildProcessWithoutNullStreams): Promise<Run> {
  return new Promise((fulfil, reject) => {
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.on('error', reject);
    child.on('close', (code) => fulfil({ code, stdout, stderr }));
  });
}

export function runChainkeep(args: readonly string[], options: RunOptions = {}): Promise<Run> {
  const child = startChainkeep(args, options);
  child.stdin.on('error', () => undefined); // a program that ends without reading its input is fine
  child.stdin.end(options.input ?? '');
  return whenEnded(child);
}

/** The one JSON document of a `--json` run. Throws where stdout is anything else. */
export function parseAnswer(run: Run): Record<string, unknown> {
  return JSON.parse(run.stdout);
}
