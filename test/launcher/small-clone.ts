// Clones of this repository for the tests of the launcher, and a search path without the node that runs the tests.

import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

export const SYSTEM_PATH = '/usr/local/bin:/usr/bin:/bin';

export interface Run {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export function makeFolder(): { path: string; remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), 'chainkeep-launcher-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** What git knows of this tree, as it stands (also what is not committed yet), without node_modules. */
export function cloneInto(folder: string): string {
  const clone = join(folder, 'clone');
  const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '-z'], { encoding: 'utf8' });
  for (const file of files.split('\0')) {
    if (/^(chainkeep|package.*\.json|scripts\/.*|src\/.*)$/.test(file)) cpSync(file, join(clone, file));
  }
  execFileSync('git', ['init', '-q', clone]);
  writeFileSync(join(clone, '.gitignore'), 'node_modules/\n/.install-lock/\n/.compiled/\n');
  execFileSync('git', ['-C', clone, 'add', '-A']);
  return clone;
}

/** A folder of programs that fail or are missing, to stand in front of the search path. */
export function makeProgram(folder: string, name: string, script: string): string {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`);
  chmodSync(join(folder, name), 0o755);
  return folder;
}

/** A search path with nothing but these programs of this machine. */
export function pathOf(folder: string, programs: readonly string[]): string {
  mkdirSync(folder, { recursive: true });
  for (const program of programs) symlinkSync(execFileSync('which', [program], { encoding: 'utf8' }).trim(), join(folder, program));
  return folder;
}

export function run(
  program: string,
  args: readonly string[],
  options: { cwd?: string; path?: string; timeout?: number } = {},
): Promise<Run> {
  const env = { ...process.env, ...(options.path !== undefined && { PATH: options.path }) };
  const child = spawn(program, args, { cwd: options.cwd ?? resolve('.'), env, timeout: options.timeout ?? 30_000, killSignal: 'SIGKILL' });
  return new Promise((fulfil, reject) => {
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (text) => {
      stdout += text;
    });
    child.stderr.on('data', (text) => {
      stderr += text;
    });
    child.on('error', reject);
    child.on('close', (code) => fulfil({ code, stdout, stderr }));
  });
}
