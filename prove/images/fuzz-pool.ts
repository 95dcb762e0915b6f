// Starts the processes that attack, and watches them: a case that costs more than five seconds of processor time or a minute of waiting, and
// one whose process dies, is bad, and the next process goes on behind it. It must not know what is attacked.

import { fork } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { FuzzReport, FuzzTask } from './fuzz-child.ts';

const CHILD = fileURLToPath(new URL('./fuzz-child.ts', import.meta.url));
/** Of processor time: on a busy machine a process may stand still for as long, and the image is not to blame. */
const HANG_MS = 5000;
/** Of the clock, for one that waits for something that never comes, and for a child to load its images. */
const STILL_MS = 60_000;
const WATCH_MS = 250;
/** Linux counts processor time in hundredths of a second for everybody who asks. */
const TICK_MS = 10;

export type Heard = (report: FuzzReport) => void;

/** Runs the cases of the task to their end, whatever becomes of single ones. */
export async function runFuzz(task: FuzzTask, heard: Heard): Promise<void> {
  for (let from = task.from; from < task.to; ) from = await runChild({ ...task, from }, heard);
}

/** The number of the next case that is to run. */
async function runChild(task: FuzzTask, heard: Heard): Promise<number> {
  const swollen: NonNullable<FuzzReport['swollen']>[] = [];
  const next = await runProcess(task, (report) => {
    if (report.swollen) swollen.push(report.swollen);
    heard(report);
  });
  for (const { number, recipe } of swollen) {
    const alone = { ...task, from: number, to: number + 1, guided: false, alone: recipe };
    await runProcess(alone, heard);
  }
  return next;
}

function runProcess(task: FuzzTask, heard: Heard): Promise<number> {
  const { NODE_V8_COVERAGE: _, ...env } = process.env;
  const child = fork(CHILD, [JSON.stringify(task)], {
    env,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    execArgv: ['--expose-gc', '--max-semi-space-size=8'],
  });
  let stderr = '';
  let hanging = false;
  let reported = task.from;
  writeFileSync(task.marker, '');
  let last = { text: '', since: performance.now(), busy: 0 };
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-4000);
  });
  child.on('message', (report: FuzzReport) => {
    reported += report.done + (report.swollen ? 1 : 0);
    heard(report);
  });
  const watch = setInterval(() => {
    const text = marked(task.marker);
    const busy = processorTime(child.pid);
    const still = performance.now() - last.since;
    if (text !== last.text) last = { text, since: performance.now(), busy };
    else if (still > STILL_MS || (text !== '' && still > HANG_MS && busy - last.busy > HANG_MS)) {
      hanging = true;
      child.kill('SIGKILL');
    }
  }, WATCH_MS);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearInterval(watch);
      if (code === 0) return resolve(reported);
      const text = marked(task.marker);
      if (text === '') return reject(new Error(`no case was begun: ${code ?? signal} ${stderr}`));
      const number = Number(text);
      const fault = hanging ? `no answer for ${HANG_MS / 1000} seconds` : `the process ended with ${code ?? signal}: ${stderr}`;
      const done = number + 1 - reported;
      heard({ done, bad: [{ number, faults: [fault] }], opened: 0, read: 0, refused: 0, kept: 0, blocks: 0 });
      resolve(number + 1);
    });
  });
}

/** Milliseconds of processor time of all threads of a process; 0 when it is gone, or where the system does not say. */
function processorTime(pid = 0): number {
  const stat = readOrEmpty(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) * TICK_MS;
}

/** Empty until the first case begins. */
function marked(path: string): string {
  return readOrEmpty(path).trim();
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH')) return '';
    throw error;
  }
}
