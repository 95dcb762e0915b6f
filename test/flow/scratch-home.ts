// A user with a home and a scratch folder of his own: runs the launcher, saves copies of his disks, and looks at every file that is there.
// The judges (qemu-img, qemu-io) and all other tools run with a time limit.

import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, globSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, expect, inject, onTestFinished } from 'vitest';
import type { BackupOutcome, BackupView, JobEventView, JobStepView, JobView, VerifyOutcome } from '../../src/app-interface.ts';
import type { ErrorCode } from '../../src/plumbing/errors.ts';
import { LAUNCHER, type Run, runChainkeep, startChainkeep, whenEnded } from '../cli/run-chainkeep.ts';

const TOOL_LIMIT_MS = 60_000;

/** Runs a tool, answers what it printed. Throws when it fails or takes too long. */
export function tool(name: string, ...args: readonly string[]): string {
  return execFileSync(name, args, {
    timeout: TOOL_LIMIT_MS,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
  });
}

export const qemuImg = (...args: readonly string[]): string => tool('qemu-img', ...args);

/** Changes a disk as a guest would. */
export function qemuIo(path: string, format: 'raw' | 'qcow2', ...commands: readonly string[]): void {
  tool('qemu-io', '-f', format, ...commands.flatMap((command) => ['-c', command]), path);
}

/** Bytes that do not compress, the same for the same seed. */
export function noise(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = (seed * 2_654_435_761 + 1) >>> 0;
  for (let at = 0; at < length; at += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

export interface Refusal {
  readonly success: false;
  readonly error: string;
  readonly error_code: ErrorCode;
  readonly advice?: string;
  readonly [context: string]: unknown;
}

export interface RunningCommand {
  readonly pid: number;
  kill(signal: NodeJS.Signals): void;
  /** Resolves when stderr has had this text. */
  said(text: string): Promise<unknown>;
  /** The same of stdout, and what it has had. */
  printed(text: string): Promise<string>;
  readonly ended: Promise<Run>;
}

/** In a run for MariaDB each home has a database of its own there. */
export function databaseOf(home: string): Readonly<Record<string, string>> {
  if (process.env.CHAINKEEP_TEST_DATABASE !== 'mariadb') return {};
  const { url, password } = inject('mariadb');
  const { hostname, port, username } = new URL(url);
  const name = `flow_${createHash('sha256').update(home).digest('hex').slice(0, 24)}`;
  const connection = ['--no-defaults', `--host=${hostname}`, `--port=${port}`, `--user=${username}`];
  execFileSync('mariadb', [...connection, '-e', `create database if not exists ${name}`], { env: { ...process.env, MYSQL_PWD: password } });
  return { CHAINKEEP_DATABASE_URL: `${url}${name}`, CHAINKEEP_DATABASE_PASSWORD: password };
}

export class ScratchHome {
  readonly folder: string;
  readonly #env: Readonly<Record<string, string>>;

  constructor(folder: string, home = join(folder, 'home')) {
    this.folder = folder;
    this.#env = { CHAINKEEP_HOME: home, ...databaseOf(home) };
  }

  /** Another installation on the same machine, with the same scratch folder. */
  otherHome(name: string): ScratchHome {
    return new ScratchHome(this.folder, this.path(name));
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  run(...args: readonly string[]): Promise<Run> {
    return runChainkeep(args, { env: this.#env, cwd: this.folder });
  }

  /** The answer of a command that succeeds: exactly one JSON document on stdout. */
  async json<Answer>(...args: readonly string[]): Promise<Answer> {
    const run = await this.run(...args, '--json');
    expect(run.code, `${args.join(' ')}: ${run.stderr}`).toBe(0);
    return JSON.parse(run.stdout);
  }

  backup(source: string, vm: string, ...options: readonly string[]): Promise<BackupOutcome> {
    return this.json('backup', source, '--vm', vm, ...options);
  }

  /** A command that must fail: one clear line with advice on stderr, one JSON document with the code on stdout. */
  async refused(code: ErrorCode, ...args: readonly string[]): Promise<Refusal> {
    return refusal(await this.run(...args, '--json'), code, args.join(' ').slice(0, 300));
  }

  /** Through a command that runs another one (setpriv …, sh -c …). */
  runAs(as: readonly string[], ...args: readonly string[]): Promise<Run> {
    const [program = '', ...options] = as;
    const env = { ...process.env, NO_COLOR: '1', ...this.#env };
    return whenEnded(spawn(program, [...options, LAUNCHER, ...args], { cwd: this.folder, env, timeout: TOOL_LIMIT_MS }));
  }

  async refusedAs(as: readonly string[], code: ErrorCode, ...args: readonly string[]): Promise<Refusal> {
    return refusal(await this.runAs(as, ...args, '--json'), code, args.join(' '));
  }

  start(...args: readonly string[]): RunningCommand {
    return watch(startChainkeep(args, { env: this.#env, cwd: this.folder }));
  }

  /** With faults in the system calls on `file`, as strace injects them: `pread64:delay_enter=20000` (microseconds), `pread64:error=EIO`. */
  startWithFault(fault: string, file: string, ...args: readonly string[]): RunningCommand {
    const [call = ''] = fault.split(':');
    // Detached (-D), so that the process started here is the program itself and signals reach it.
    const tracer = ['-D', '-f', '-qq', '-o', '/dev/null', '-P', file, '-e', `trace=${call}`, '-e', `inject=${fault}`];
    const env = { ...process.env, NO_COLOR: '1', ...this.#env };
    return watch(spawn('strace', [...tracer, LAUNCHER, ...args], { cwd: this.folder, env, timeout: TOOL_LIMIT_MS, killSignal: 'SIGKILL' }));
  }

  /** The whole program under strace with these options. */
  traced(options: readonly string[], args: readonly string[]): Promise<Run> {
    const env = { ...process.env, NO_COLOR: '1', ...this.#env };
    return watch(spawn('strace', [...options, LAUNCHER, ...args], { cwd: this.folder, env, timeout: TOOL_LIMIT_MS, killSignal: 'SIGKILL' }))
      .ended;
  }

  async list(...options: readonly string[]): Promise<readonly BackupView[]> {
    return (await this.json<{ backups: readonly BackupView[] }>('list', ...options)).backups;
  }

  async jobs(...options: readonly string[]): Promise<readonly JobView[]> {
    return (await this.json<{ jobs: readonly JobView[] }>('jobs', ...options)).jobs;
  }

  showJob(id: string): Promise<{ readonly job: JobView; readonly steps: readonly JobStepView[] }> {
    return this.json('jobs', 'show', id);
  }

  async jobLog(id: string): Promise<readonly JobEventView[]> {
    return (await this.json<{ events: readonly JobEventView[] }>('jobs', 'log', id)).events;
  }

  /** Verify of everything, which must find no damage. */
  verifyAll(repository = 'default'): Promise<VerifyOutcome> {
    return this.json('verify', '--repo', repository);
  }

  /** A copy of a disk as it is now, to compare restore points with. */
  save(source: string, name: string): string {
    copyFileSync(source, this.path(name));
    return this.path(name);
  }

  /** Restores the backup to a new file, which must be the saved copy byte for byte; the file is gone again afterwards. */
  async expectRestores(backupId: string, copy: string): Promise<void> {
    const target = this.path(`restored-${backupId}.raw`);
    await this.json('restore', backupId, target);
    const same = readFileSync(target).equals(readFileSync(copy));
    expect(same, `${backupId} restores as ${copy}`).toBe(true);
    rmSync(target);
  }

  /** Resolves when a file that fits the pattern is there: the sign that a command is at work. */
  async appears(pattern: string): Promise<string> {
    for (let waited = 0; waited < TOOL_LIMIT_MS; waited += 2) {
      const [found] = globSync(pattern, { cwd: this.folder });
      if (found !== undefined) return this.path(found);
      await sleep(2);
    }
    throw new Error(`${pattern} did not appear`);
  }

  image(backupId: string): string {
    const [found] = globSync(`**/${backupId}.qcow2`, { cwd: this.folder });
    if (found === undefined) throw new Error(`there is no image of ${backupId}`);
    return this.path(found);
  }

  /** Name and size of everything in the scratch folder but the databases, whose size says nothing. */
  files(under = ''): readonly string[] {
    return globSync('**/{*,.*}', { cwd: this.path(under) })
      .filter((name) => !/catalog\.sqlite(-wal|-shm)?$/.test(name))
      .map((name) => describe(this.path(join(under, name)), name))
      .sort();
  }
}

function watch(child: ChildProcessWithoutNullStreams): RunningCommand {
  child.stdin.end();
  const ended = whenEnded(child);
  const hearing = (stream: Readable) => {
    let heard = '';
    stream.on('data', (chunk: Buffer) => {
      heard += chunk.toString();
    });
    return (text: string): Promise<string> =>
      new Promise((resolve, reject) => {
        const look = (): void => (heard.includes(text) ? resolve(heard) : undefined);
        stream.on('data', look);
        child.on('close', () => reject(new Error(`it ended without "${text}": ${heard}`)));
        look();
      });
  };
  return { pid: child.pid ?? -1, kill: (signal) => child.kill(signal), said: hearing(child.stderr), printed: hearing(child.stdout), ended };
}

function describe(path: string, name: string): string {
  const stat = lstatSync(path);
  return stat.isDirectory() ? `${name}/` : `${name} ${stat.size}`;
}

export function refusal(run: Run, code: ErrorCode, what = ''): Refusal {
  expect(run.code, `${what}: ${run.stderr}`).toBe(code === 'USAGE' ? 2 : 1);
  const answer: Refusal = JSON.parse(run.stdout);
  expect(answer, `${what} ${run.stderr}`).toMatchObject({ success: false, error_code: code });
  const lines = run.stderr.split('\n');
  expect(lines.filter((line) => line.startsWith('error: ')).length, run.stderr).toBe(1);
  expect(lines.filter((line) => line.startsWith('advice: ')).length, run.stderr).toBe(1);
  expect(
    lines.every((line) => /^(error: |advice: |note: |stopping cleanly|disk \d+ |$)/.test(line)),
    run.stderr,
  ).toBe(true);
  return answer;
}

/** For one test; everything is gone after it. Concurrent tests give their own `onTestFinished`. */
export function scratchHome(whenFinished: (clean: () => void) => void = onTestFinished): ScratchHome {
  const folder = makeFolder();
  whenFinished(() => rmSync(folder, { recursive: true, force: true }));
  return new ScratchHome(folder);
}

/** For all tests of a file. */
export function sharedScratchHome(): ScratchHome {
  const folder = makeFolder();
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return new ScratchHome(folder);
}

function makeFolder(): string {
  return mkdtempSync(join(tmpdir(), 'chainkeep-flow-'));
}

/** A disk image with an ext4 file system of real files; no mount is needed to make it. */
export function makeFileSystem(path: string, bytes: number): void {
  const files = `${path}.files`;
  mkdirSync(join(files, 'etc'), { recursive: true });
  for (let index = 0; index < 20; index += 1) writeFileSync(join(files, 'etc', `file-${index}`), noise(index * 3_000, index));
  tool('truncate', '-s', String(bytes), path);
  tool('mkfs.ext4', '-q', '-F', '-d', files, path);
  rmSync(files, { recursive: true });
}

/** Bytes that a file takes on its disk. */
export function bytesOnDisk(path: string): number {
  return statSync(path).blocks * 512;
}
