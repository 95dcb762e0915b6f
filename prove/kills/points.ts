// The points of a command at which it can be killed: every fsync, rename, link, unlink, and every write that completes a commit of the database.
// strace sees them from outside; the program knows nothing of it. It must not judge what a kill has left.

import { existsSync, readFileSync, rmSync } from 'node:fs';
import { type Ended, killGroup, LAUNCHER, start, type User } from '../user.ts';

/**
 * One call: the `nth` of its kind in its thread. One thread of Node's pool does all calls on files (UV_THREADPOOL_SIZE=1), so the numbers are
 * the same in every run; the database is written by the main thread.
 */
export interface Point {
  readonly call: string;
  readonly thread: 'main' | 'pool';
  readonly nth: number;
}

export type Side = 'before' | 'after';

export interface KilledRun {
  readonly ended: Ended;
  /** False when the run ended without ever coming to the point. */
  readonly reached: boolean;
}

const TRACED = 'execve,fsync,fdatasync,/^rename,/^link,/^unlink,pwrite64';
// Much longer than a kill takes to arrive; only the thread that comes to the same number elsewhere waits for all of it.
const HELD_MICROSECONDS = 500_000;
const LOOK_MS = 4;

/** Runs the command untouched and answers its points, in the order of the calls. Throws when it does not succeed. */
export async function countPoints(user: User, args: readonly string[]): Promise<readonly Point[]> {
  const trace = `${user.home}.strace`;
  const { code, signal, stdout, stderr } = await traced(user, trace, ['-xx', '-e', `trace=${TRACED}`], args).ended;
  if (code !== 0) throw new Error(`chainkeep ${args.join(' ')} under strace ended with ${code ?? signal}: ${stderr}${stdout}`);
  return readPoints(readFileSync(trace, 'utf8'));
}

/**
 * Runs the command and kills its whole process group at the point. strace holds the thread there, before the call is made or after it was made,
 * and says so; the kill comes while it is held. So `before` is truly before: the held call never happens. All other threads run on until then.
 */
export async function killAtPoint(user: User, args: readonly string[], point: Point, side: Side): Promise<KilledRun> {
  const trace = `${user.home}.strace`;
  const hold = `${side === 'before' ? 'delay_enter' : 'delay_exit'}=${HELD_MICROSECONDS}`;
  const traces = ['-e', `trace=execve,${point.call}`, '-e', `inject=${point.call}:${hold}:when=${point.nth}`];
  rmSync(trace, { force: true });
  const { child, ended } = traced(user, trace, traces, args);
  let reached = false;
  const look = setInterval(() => {
    if (reached || !existsSync(trace) || !isHeld(readFileSync(trace, 'utf8'), point, side)) return;
    reached = true;
    killGroup(child, 'SIGKILL');
  }, LOOK_MS);
  try {
    return { ended: await ended, reached };
  } finally {
    clearInterval(look);
  }
}

function traced(user: User, trace: string, traces: readonly string[], args: readonly string[]): ReturnType<typeof start> {
  const strace = ['strace', '-f', '--seccomp-bpf', '-qq', '-o', trace, ...traces];
  return start([...strace, LAUNCHER, ...args], { env: { ...user.env, UV_THREADPOOL_SIZE: '1' } });
}

interface Call {
  readonly thread: 'main' | 'pool';
  readonly call: string;
  text: string;
}

/** Lines of strace: `PID call(arguments) = result`, some in two parts. The first is the execve of the main thread. */
function readCalls(output: string): readonly Call[] {
  const calls: Call[] = [];
  const newest = new Map<string, Call>();
  let main: string | undefined;
  for (const line of output.split('\n')) {
    const [, pid = '', rest] = /^(\d+) +<\.\.\. [a-z0-9_]+ resumed>(.*)$/.exec(line) ?? [];
    const open = newest.get(pid);
    if (open && rest !== undefined) open.text += rest;
    const [, own, call, text] = /^(\d+) +([a-z0-9_]+)\((.*)$/.exec(line) ?? [];
    if (own === undefined || call === undefined || text === undefined) continue;
    main ??= own;
    const begun: Call = { thread: own === main ? 'main' : 'pool', call, text };
    newest.set(own, begun);
    calls.push(begun);
  }
  return calls;
}

/** A held call is the newest of its kind in its thread: at entry its line is not finished yet, at exit it says DELAYED. */
function isHeld(output: string, point: Point, side: Side): boolean {
  const calls = readCalls(output).filter(({ thread, call }) => thread === point.thread && call === point.call);
  const last = calls[point.nth - 1];
  return last !== undefined && (side === 'before' || last.text.includes('DELAYED'));
}

export function readPoints(output: string): readonly Point[] {
  const points: Point[] = [];
  const counts = new Map<string, number>();
  let commits = false;
  for (const { thread, call, text } of readCalls(output)) {
    if (call === 'execve') continue;
    const key = `${thread} ${call}`;
    const nth = (counts.get(key) ?? 0) + 1;
    counts.set(key, nth);
    const isFrame = call === 'pwrite64' && thread === 'main';
    // A frame of SQLite's log is a header of 24 bytes and a page; the header of a commit's last frame says how large the database is.
    if (call === 'pwrite64' && !(isFrame && commits)) {
      commits = isFrame && /^\d+, "(\\x..){4}(?!\\x00\\x00\\x00\\x00)(\\x..){20}", 24,/.test(text);
      continue;
    }
    if (isFrame) commits = false;
    // Node's own cache of compiled code, and the program's flush of its output, right before it ends.
    if (call.startsWith('rename') || (call === 'fsync' && /^[12]\)/.test(text))) continue;
    points.push({ call, thread, nth });
  }
  return points;
}
