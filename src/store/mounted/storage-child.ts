// The process of a repository as its parent sees it: asked by requests, given up when it does not answer in time.
// It must never wait for that process: one that hangs in a call of a dead server cannot even be killed.

import { type ChildProcess, spawn } from 'node:child_process';
import { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { LATE, within } from '../../plumbing/abandoned-work.ts';
import { systemClock } from '../../plumbing/clock.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { FrameReader, sendFrame } from './frames.ts';
import type { Answers, Operation, Reply, StorageRequest } from './requests.ts';
import { parseError } from './sent-error.ts';
import { SilenceWatch } from './silence-watch.ts';

const PROGRAM = new URL(import.meta.url.endsWith('.ts') ? './storage-process.ts' : './storage-process.js', import.meta.url);
const SOCKET_FD = 3;
/** What the process is told of our environment: nothing that may be a secret. */
const PASSED_ON = ['PATH', 'HOME', 'TMPDIR', 'CHAINKEEP_NATIVE', 'NODE_COMPILE_CACHE', 'NODE_V8_COVERAGE'];
/** Threads for calls on the storage, all of them waiting for the network most of the time. */
const THREADS = '8';

export interface Transfer {
  readonly body?: readonly Uint8Array[];
  /** Where the bytes of the answer go. */
  readonly into?: Uint8Array;
}

interface Question {
  readonly into: Uint8Array | undefined;
  /** With the text of the reply. */
  settle(text: string): void;
  fail(error: Error): void;
}

/** Processes that were given up and have not ended. They hang in calls on servers that do not answer. */
const abandoned = new Set<number>();

/** For tests and for messages: how many processes of this one hang at this moment. */
export function abandonedProcesses(): number {
  return abandoned.size;
}

export class StorageChild {
  readonly #place: string;
  readonly #child: ChildProcess;
  readonly #socket: Socket;
  readonly #questions = new Map<number, Question>();
  readonly #ended: Promise<void>;
  #watch: SilenceWatch;
  #nextId = 1;
  #lost: ChainkeepError | undefined;
  #lostAt = 0;
  #said = '';

  /** `limit`: milliseconds until an answer must come. */
  constructor(place: string, limit: number) {
    this.#place = place;
    this.#child = startProcess();
    const socket = this.#child.stdio[SOCKET_FD];
    if (!(socket instanceof Socket)) throw new ChainkeepError('INTERNAL', 'a process was started without its socket');
    this.#socket = socket;
    this.#watch = this.#newWatch(limit);
    const reader = new FrameReader({ place: (id, length) => this.#placeOf(id, length), take: (id, text) => this.#take(id, text) });
    socket.on('data', (chunk: Buffer) => reader.feed(chunk));
    socket.on('error', () => undefined); // its process has ended, which is told below
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.#said = (this.#said + chunk.toString()).slice(-2000);
    });
    this.#ended = new Promise((resolve) => {
      this.#child.on('error', (cause) => resolve(this.#lose(`its process could not be started: ${cause.message}`)));
      this.#child.on('exit', (code, signal) => resolve(this.#lose(`its process has ended (${signal ?? code}) ${this.#said}`.trim())));
    });
    // Nothing of it keeps this process alive but a question that waits for its answer.
    this.#child.unref();
    socket.unref();
    if (this.#child.stderr instanceof Socket) this.#child.stderr.unref();
  }

  /** Why and when it was lost, by the monotonic clock; undefined while it is there. */
  get loss(): { readonly error: ChainkeepError; readonly at: number } | undefined {
    return this.#lost && { error: this.#lost, at: this.#lostAt };
  }

  setLimit(limit: number): void {
    this.#watch.stop();
    this.#watch = this.#newWatch(limit);
    for (const id of this.#questions.keys()) this.#watch.asked(id);
  }

  /** REPOSITORY_OFFLINE when the process has ended or was given up. */
  ask<Op extends Operation>(request: Extract<StorageRequest, { readonly op: Op }>, { body, into }: Transfer = {}): Promise<Answers[Op]> {
    if (this.#lost) return Promise.reject(this.#lost);
    const id = this.#nextId;
    this.#nextId += 1;
    return new Promise((resolve, reject) => {
      const settle = (text: string): void => {
        const { value, error }: Reply<Op> = JSON.parse(text);
        if (error) reject(parseError(error));
        else resolve(value);
      };
      this.#questions.set(id, { into, settle, fail: reject });
      this.#watch.asked(id);
      sendFrame(this.#socket, id, request, body);
    });
  }

  /** An orderly end: what it mounted is unmounted where nobody else uses it. One that does not answer is given up; nothing is lost by that. */
  async stop(limit: number): Promise<void> {
    if (this.#lost) return;
    this.setLimit(limit);
    await this.ask<'stop'>({ op: 'stop' }).catch(() => undefined);
    if (this.#lost) return;
    this.#lose('it was closed');
    if ((await within(this.#ended, limit)) === LATE) this.#abandon();
  }

  #placeOf(id: number, length: number): Uint8Array {
    const into = this.#questions.get(id)?.into;
    return into?.byteLength === length ? into : Buffer.allocUnsafe(length);
  }

  #take(id: number, text: string): void {
    const question = this.#questions.get(id);
    this.#questions.delete(id);
    this.#watch.answered(id);
    question?.settle(text);
  }

  #newWatch(limit: number): SilenceWatch {
    return new SilenceWatch(limit, () => {
      this.#lose(`it has not answered within ${limit / 1000} s`);
      this.#abandon();
    });
  }

  #lose(why: string): void {
    this.#watch.stop();
    if (this.#lost) return;
    this.#lostAt = systemClock.monotonic();
    this.#lost = new ChainkeepError('REPOSITORY_OFFLINE', `the share ${this.#place} cannot be used: ${why}`, {
      advice: 'is the server down, or the network? it is tried again when it is needed',
      retryable: true,
      context: { place: this.#place },
    });
    this.#socket.destroy(); // its sign to end; and nothing that is on its way may reach a buffer that is its owner's again
    for (const { fail } of this.#questions.values()) fail(this.#lost);
    this.#questions.clear();
  }

  /** Killed, and not waited for. */
  #abandon(): void {
    const { pid } = this.#child;
    this.#child.stderr?.destroy();
    if (pid === undefined) return;
    abandoned.add(pid);
    void this.#ended.then(() => abandoned.delete(pid));
    try {
      process.kill(-pid, 'SIGKILL'); // its group: with the mount that it may have started
    } catch {
      this.#child.kill('SIGKILL'); // it has ended, or has no group of its own yet
    }
  }
}

function startProcess(): ChildProcess {
  const env = Object.fromEntries(PASSED_ON.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])));
  return spawn(process.execPath, ['--no-warnings', fileURLToPath(PROGRAM)], {
    // Ctrl-C at a terminal goes to the whole group: this process still needs it to clear up.
    detached: true,
    cwd: '/',
    env: { ...env, UV_THREADPOOL_SIZE: THREADS },
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
  });
}
