// Worker threads that wait for a transfer. Starting one takes as long as reading 200 MB, so they are started ahead and used again.

import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';

// Run from source it is TypeScript, in the published package JavaScript.
const WORKER = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url);
const MOST_THREADS = 8;
const MOST_IDLE = MOST_THREADS;

const idle: Worker[] = [];

/** Threads one transfer works with. */
export function threadCount(): number {
  return Math.min(availableParallelism(), MOST_THREADS);
}

/** Starts the threads of the next transfer now, while the caller still plans; none of them keeps the process alive. */
export function startWorkersAhead(): void {
  while (idle.length < threadCount()) idle.push(startIdle());
}

/** A thread that waits for its setup; the process stays alive while it is taken. */
export function takeWorker(): Worker {
  const worker = idle.shift() ?? new Worker(WORKER);
  worker.removeAllListeners();
  worker.ref();
  return worker;
}

/** Only a thread that has ended its work well may be used again. */
export function giveBackWorker(worker: Worker): void {
  worker.removeAllListeners();
  if (idle.length >= MOST_IDLE) {
    void worker.terminate();
    return;
  }
  watch(worker);
  idle.push(worker);
}

function startIdle(): Worker {
  const worker = new Worker(WORKER);
  watch(worker);
  return worker;
}

/** A thread that dies while it waits is no longer there to be taken; the transfer that would have had it starts another. */
function watch(worker: Worker): void {
  worker.unref();
  const forget = (): void => {
    const at = idle.indexOf(worker);
    if (at >= 0) idle.splice(at, 1);
  };
  worker.on('error', forget);
  worker.on('exit', forget);
}
