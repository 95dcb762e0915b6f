// The program as a user has it, for campaigns: started through the launcher, in a process of its own, with a home of its own.

import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export const LAUNCHER = fileURLToPath(new URL('../chainkeep', import.meta.url));
const LIMIT_MS = 120_000;
const GONE_POLL_MS = 2;

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts any command in a process group of its own, which is killed as a whole after two minutes: nothing may hang for ever. */
export function start(
  command: readonly string[],
  options: SpawnOptions = {},
): { readonly child: ChildProcess; readonly ended: Promise<Ended> } {
  const [file = '', ...args] = command;
  const child = spawn(file, args, { ...options, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    const timer = setTimeout(() => killGroup(child, 'SIGKILL'), LIMIT_MS);
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      groupGone(child.pid).then(() => resolve({ code, signal, stdout, stderr }), reject);
    });
  });
  return { child, ended };
}

/**
 * A killed process gives its files back before it is gone; who looks in between rightly finds it alive. Throws when something of the group is
 * still there after the limit.
 */
async function groupGone(pid: number | undefined): Promise<void> {
  const until = performance.now() + LIMIT_MS;
  while (pid !== undefined && isGroupThere(pid)) {
    if (performance.now() > until) throw new Error(`processes of the group ${pid} are still there`);
    await sleep(GONE_POLL_MS);
  }
}

/** Is any process of the group more than a name that its parent has not collected yet? */
function isGroupThere(group: number): boolean {
  try {
    process.kill(-group, 0);
  } catch {
    return false; // no such group: the usual end
  }
  return readdirSync('/proc').some((name) => {
    if (!/^\d+$/.test(name)) return false;
    const [state, , ownGroup] = statOf(name);
    return ownGroup === String(group) && ((state !== 'Z' && state !== 'X') || threadsOf(name) > 1);
  });
}

function threadsOf(pid: string): number {
  try {
    return readdirSync(`/proc/${pid}/task`).length;
  } catch {
    return 0;
  }
}

/** The fields of /proc/PID/stat from the third (state, parent, group …), proc(5); none for a process that has gone. */
function statOf(pid: string): readonly string[] {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  } catch {
    return [];
  }
}

/** The whole group that `start` made. */
export function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  process.kill(-child.pid, signal);
}

/** A home, and the commands in it. */
export class User {
  readonly home: string;
  readonly env: NodeJS.ProcessEnv;

  constructor(home: string) {
    this.home = home;
    // A child that is killed writes no coverage, and what counts calls must not see those of the coverage.
    // What campaigns start is not measured, and starts as fast as at a user's.
    this.env = { ...process.env, CHAINKEEP_HOME: home, NO_COLOR: '1', NODE_V8_COVERAGE: '', NODE_DISABLE_COMPILE_CACHE: undefined };
  }

  start(...args: readonly string[]): ReturnType<typeof start> {
    return start([LAUNCHER, ...args], { env: this.env });
  }

  run(...args: readonly string[]): Promise<Ended> {
    return this.start(...args).ended;
  }

  /** Through another program: `strace …`. */
  through(before: readonly string[], ...args: readonly string[]): Promise<Ended> {
    return start([...before, LAUNCHER, ...args], { env: this.env }).ended;
  }

  /** The answer of a command that must succeed; throws with what it said when it does not. */
  async json<Answer>(...args: readonly string[]): Promise<Answer> {
    const { code, signal, stdout, stderr } = await this.run(...args, '--json');
    if (code !== 0) throw new Error(`chainkeep ${args.join(' ')} ended with ${code ?? signal}: ${stderr}${stdout}`);
    return JSON.parse(stdout);
  }
}
