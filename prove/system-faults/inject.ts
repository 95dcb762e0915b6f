// Faults in the system calls of the whole program, as strace injects them; and which calls there are to fail, from a run that only counts.
// strace counts the calls of each thread by itself: "the third" is the third of every thread. One thread for files makes that repeatable.

import { readFileSync } from 'node:fs';
import type { Ended, User } from '../user.ts';
import type { FileKind } from './story.ts';

export interface Fault {
  readonly call: string;
  readonly error: string;
  readonly nth: number;
  /** That one and every later one. */
  readonly sticky: boolean;
  /** Only calls on these files; undefined: on any. */
  readonly on?: FileKind;
}

export interface Attacked {
  readonly ended: Ended;
  /** Calls that were failed, with the file where it is known: `fsync /…/catalog.sqlite-wal`. */
  readonly injected: readonly string[];
}

/** Calls that change something are failed wherever they go; calls that read only on files with known names, for Node reads its own. */
const CHANGING: Readonly<Record<string, readonly string[]>> = {
  pwrite64: ['EIO', 'ENOSPC'],
  pwritev: ['EIO', 'ENOSPC'],
  fsync: ['EIO', 'ENOSPC'],
  fdatasync: ['EIO'],
  ftruncate: ['EIO', 'ENOSPC'],
  link: ['EIO', 'ENOSPC', 'EACCES'],
  rename: ['EIO', 'EACCES'],
  unlink: ['EIO', 'EACCES'],
  mkdir: ['EIO', 'ENOSPC', 'EACCES'],
  rmdir: ['EIO', 'EACCES'],
};
const READING: Readonly<Record<string, readonly string[]>> = {
  openat: ['EIO', 'EACCES'],
  pread64: ['EIO'],
  getdents64: ['EIO'],
  statx: ['EIO', 'EACCES'],
};

/** A sticky fault in each thread from its Nth call on, for every N that the run without faults comes to. */
export async function findFaults(
  user: User,
  args: readonly string[],
  files: Readonly<Record<FileKind, readonly string[]>>,
  begin: () => void,
  trace: string,
): Promise<Fault[]> {
  begin();
  const calls = [...Object.keys(CHANGING), ...Object.keys(READING)];
  const ended = await user.through(strace(trace, calls), ...args);
  if (ended.code !== 0) throw new Error(`the run that counts ended with ${ended.code ?? ended.signal}: ${ended.stderr}`);
  const lines = readLines(trace);
  const faults: Fault[] = [];
  for (const [call, errors] of Object.entries(CHANGING)) faults.push(...enumerate(call, errors, countPerThread(lines, call), {}));
  for (const [call, errors] of Object.entries(READING)) {
    for (const [on, paths] of Object.entries(files) as [FileKind, readonly string[]][]) {
      const most = countPerThread(lines, call, paths);
      faults.push(...enumerate(call, errors, most, { on }));
    }
  }
  return faults;
}

function enumerate(call: string, errors: readonly string[], most: number, on: Pick<Fault, 'on'>): Fault[] {
  const numbers = Array.from({ length: most }, (_, index) => index + 1);
  return numbers.flatMap((nth) => errors.flatMap((error) => [false, true].map((sticky) => ({ call, error, nth, sticky, ...on }))));
}

export async function attack(
  user: User,
  args: readonly string[],
  fault: Fault,
  files: Readonly<Record<FileKind, readonly string[]>>,
  trace: string,
): Promise<Attacked> {
  const paths = fault.on === undefined ? [] : files[fault.on].flatMap((path) => ['-P', path]);
  const when = `when=${fault.nth}${fault.sticky ? '+' : ''}`;
  const options = [...paths, '-e', `inject=${fault.call}:error=${fault.error}:${when}`];
  const ended = await user.through(strace(trace, [fault.call], options), ...args);
  const injected = readLines(trace)
    .filter(({ text }) => text.includes('(INJECTED)'))
    .map(({ call, paths: named }) => `${call} ${named.join(' ')}`);
  return { ended, injected };
}

function strace(trace: string, calls: readonly string[], options: readonly string[] = []): string[] {
  return ['strace', '-f', '-y', '-qq', '-s', '0', '-o', trace, '-E', 'UV_THREADPOOL_SIZE=1', '-e', `trace=${calls.join(',')}`, ...options];
}

interface TraceLine {
  readonly thread: string;
  readonly call: string;
  readonly paths: readonly string[];
  readonly text: string;
}

/** A call that another thread interrupts stands on two lines: what it was on the first, how it ended on the second. */
function readLines(trace: string): TraceLine[] {
  const lines: TraceLine[] = [];
  const open = new Map<string, TraceLine>();
  for (const text of readFileSync(trace, 'utf8').split('\n')) {
    const [, thread = '', call] = /^(\d+) +(\w+)\(/.exec(text) ?? [];
    if (call !== undefined) {
      const paths = [...text.matchAll(/<([^>]*)>|"([^"]+)"/g)]
        .map(([, file, name]) => file ?? name ?? '')
        .filter((path) => path.startsWith('/'));
      const line = { thread, call, paths, text };
      lines.push(line);
      open.set(thread, line);
    } else {
      const [, resumed = ''] = /^(\d+) +<\.\.\. /.exec(text) ?? [];
      const begun = open.get(resumed);
      if (begun !== undefined && text.includes('(INJECTED)')) lines.push({ ...begun, text });
    }
  }
  return lines;
}

function countPerThread(lines: readonly TraceLine[], call: string, paths?: readonly string[]): number {
  const counts = new Map<string, number>();
  for (const line of lines) {
    if (line.call !== call || (paths && !line.paths.some((path) => paths.includes(path)))) continue;
    counts.set(line.thread, (counts.get(line.thread) ?? 0) + 1);
  }
  return Math.max(0, ...counts.values());
}
