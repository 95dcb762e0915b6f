// Runs test files in a user-mode-linux guest ('linux.uml'): the machine's own root, read-only, under a kernel that has NFS and SMB, server and client.
// Nothing of the machine is changed; the guest's own files are in its memory.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = fileURLToPath(new URL('.', import.meta.url));

export interface GuestRun {
  /** Full names. */
  readonly passed: readonly string[];
  /** Full names with the first lines of what went wrong. */
  readonly failed: readonly string[];
  readonly skipped: readonly string[];
  /** Everything that was printed in the guest. */
  readonly log: string;
}

export interface GuestOptions {
  readonly shares: readonly ('nfs' | 'smb')[];
  /** Files of test/uml. */
  readonly tests: readonly string[];
  readonly limitMs: number;
}

interface Report {
  readonly testResults: readonly {
    readonly message: string;
    readonly assertionResults: readonly {
      readonly fullName: string;
      readonly status: string;
      readonly failureMessages: readonly string[];
    }[];
  }[];
}

/** Why there is no guest on this machine; undefined where there can be one. */
export function whyNoGuest(): string | undefined {
  if (process.getuid?.() !== 0) return 'user-mode-linux needs root to mount this machine’s root';
  if (needsWholeRegisters() && !hasCompiler())
    return 'this processor has registers that user-mode-linux does not know, and there is no gcc for the help';
  return undefined;
}

export async function runInGuest({ shares, tests, limitMs }: GuestOptions): Promise<GuestRun> {
  // Not below /dev: the guest has one of its own.
  const out = mkdtempSync('/var/tmp/chainkeep-guest-');
  try {
    const preload = needsWholeRegisters() ? compileHelp(out) : undefined;
    const given = { PROJECT: resolve(HERE, '../..'), OUT: out, NODE: process.execPath, SHARES: shares.join(','), TESTS: tests.join(',') };
    const guest = spawn(
      'linux.uml',
      [
        ...['mem=1500M', `umid=chainkeep-${process.pid}`, `uml_dir=${out}`, 'rootfstype=hostfs', 'rootflags=/', 'ro', 'quiet'],
        ...[`init=${join(HERE, 'uml-init.sh')}`, 'con=null', 'con0=null,fd:1', 'con1=null,fd:1', 'ssl=null'],
        ...Object.entries(given).map(([name, value]) => `${name}=${value}`),
      ],
      // Its memory is a file: on a disk it would be slow. In a group of its own: it has many processes.
      {
        stdio: ['ignore', 'ignore', 'ignore'],
        detached: true,
        env: { PATH: process.env.PATH, TMPDIR: '/dev/shm', ...(preload && { LD_PRELOAD: preload }) },
      },
    );
    // One that could not be started has no group: to kill group 0 would be to kill our own.
    const timer = setTimeout(() => guest.pid !== undefined && process.kill(-guest.pid, 'SIGKILL'), limitMs);
    await once(guest, 'exit').finally(() => clearTimeout(timer));
    return readRun(out);
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

function readRun(out: string): GuestRun {
  const log = readText(join(out, 'log'));
  const text = readText(join(out, 'report.json'));
  if (text === '') return { passed: [], failed: [`the guest ended without a report: ${log.slice(-4000)}`], skipped: [], log };
  const report: Report = JSON.parse(text);
  const all = report.testResults.flatMap((file) => file.assertionResults);
  const broken = report.testResults.filter(({ assertionResults, message }) => assertionResults.length === 0 && message !== '');
  const namesOf = (status: string): readonly string[] => all.filter((test) => test.status === status).map(({ fullName }) => fullName);
  return {
    passed: namesOf('passed'),
    failed: [
      ...broken.map(({ message }) => message),
      ...all
        .filter(({ status }) => status === 'failed')
        .map((test) => `${test.fullName}: ${test.failureMessages.join(' ').slice(0, 1500)}`),
    ],
    skipped: [...namesOf('skipped'), ...namesOf('pending')],
    log,
  };
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // it came not so far
  }
}

/** Kernels since 2022 take the register area back only as a whole, and with AMX it is larger than what the guest's kernel keeps. */
function needsWholeRegisters(): boolean {
  return /\bamx_tile\b/.test(readFileSync('/proc/cpuinfo', 'utf8'));
}

function hasCompiler(): boolean {
  try {
    execFileSync('gcc', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

function compileHelp(folder: string): string {
  const library = join(folder, 'xstate.so');
  execFileSync('gcc', ['-O1', '-shared', '-fPIC', '-o', library, join(HERE, 'uml-xstate.c')]);
  return library;
}
