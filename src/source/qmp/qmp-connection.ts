// The monitor of a QEMU: commands and their answers, each with a time limit. Which commands, and what for, others know.

import { ChainkeepError, throwIfCancelled } from '../../plumbing/errors.ts';
import { asAnswer, isAnswer, odd, sizeOf, textOf } from './answer-fields.ts';
import { type JsonSocket, openJsonSocket } from './json-socket.ts';

export interface QmpConnection {
  readonly socket: string;
  readonly version: { readonly major: number; readonly minor: number };
  /** Throws HYPERVISOR_FAILED when QEMU refuses it (`context.class`, `context.desc`), CONNECTION_FAILED when no answer comes. */
  execute(command: string, parameters?: Readonly<Record<string, unknown>>): Promise<unknown>;
  close(): void;
}

/** A monitor takes one client at a time: the next one gets no greeting until the first has left. */
const GREETING_WITHIN_MS = 10_000;
/** A transaction waits for requests of the guest that are under way. */
const ANSWER_WITHIN_MS = 60_000;

interface Waiting {
  readonly resolve: (document: unknown) => void;
  readonly reject: (error: ChainkeepError) => void;
}

/** Throws CONNECTION_FAILED, HYPERVISOR_FAILED. */
export async function openQmp(path: string, signal?: AbortSignal): Promise<QmpConnection> {
  const dialog = new QmpDialog(path);
  const onAbort = (): void => dialog.close();
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    const version = await dialog.begin();
    return { socket: path, version, execute: (command, parameters) => dialog.execute(command, parameters), close: () => dialog.close() };
  } catch (error) {
    dialog.close();
    throwIfCancelled(signal);
    throw error;
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

const GREETING = 'the greeting';

class QmpDialog {
  readonly #path: string;
  readonly #waiting = new Map<string, Waiting>();
  #socket: JsonSocket | undefined;
  #ended: ChainkeepError | undefined;
  #next = 0;

  constructor(path: string) {
    this.#path = path;
  }

  async begin(): Promise<QmpConnection['version']> {
    const greeting = this.#wait(
      GREETING,
      GREETING_WITHIN_MS,
      'another program may be connected to it: a monitor takes one client at a time',
    );
    // It can fail before anybody waits for it.
    greeting.catch(() => undefined);
    this.#socket = await openJsonSocket(this.#path, {
      onDocument: (document) => this.#take(document),
      onEnd: (error) => this.#end(error),
    });
    const qmp = asAnswer(asAnswer(await greeting, GREETING).QMP, GREETING);
    const version = asAnswer(asAnswer(qmp.version, GREETING).qemu, GREETING);
    await this.execute('qmp_capabilities');
    return { major: sizeOf(version, 'major', GREETING), minor: sizeOf(version, 'minor', GREETING) };
  }

  async execute(command: string, parameters?: Readonly<Record<string, unknown>>): Promise<unknown> {
    if (this.#ended) throw this.#ended;
    const id = `chainkeep-${this.#next++}`;
    this.#socket?.send({ execute: command, ...(parameters && { arguments: parameters }), id });
    const answer = asAnswer(await this.#wait(id, ANSWER_WITHIN_MS, `to ${command}`), command);
    if ('return' in answer) return answer.return;
    const error = asAnswer(answer.error, command);
    throw refused(command, textOf(error, 'class', command), textOf(error, 'desc', command));
  }

  close(): void {
    this.#socket?.close();
    this.#end(new ChainkeepError('CANCELLED', `the connection to ${this.#path} was closed`));
  }

  #wait(id: string, within: number, what: string): Promise<unknown> {
    return new Promise((resolve, reject) => {
      // What became of the command is not known then, so nothing more is asked over this connection.
      const timer = setTimeout(() => this.#fail(noAnswer(this.#path, within, what)), within);
      this.#waiting.set(id, {
        resolve: (document) => {
          clearTimeout(timer);
          resolve(document);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
    });
  }

  #take(document: unknown): void {
    if (!isAnswer(document)) {
      this.#fail(odd('a command', 'is no object'));
      return;
    }
    if ('event' in document) return;
    const id = 'QMP' in document ? GREETING : document.id;
    const waiting = typeof id === 'string' ? this.#waiting.get(id) : undefined;
    if (typeof id !== 'string' || !waiting) {
      this.#fail(odd('a command', 'is one to something that was not asked'));
      return;
    }
    this.#waiting.delete(id);
    waiting.resolve(document);
  }

  #fail(error: ChainkeepError): void {
    this.#end(error);
    this.#socket?.close();
  }

  #end(error: ChainkeepError): void {
    this.#ended ??= error;
    const all = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of all) reject(this.#ended);
  }
}

function refused(command: string, kind: string, desc: string): ChainkeepError {
  return new ChainkeepError('HYPERVISOR_FAILED', `QEMU refuses ${command}: ${desc}`, {
    advice: 'the log of the virtual machine may say more',
    context: { command, class: kind, desc },
  });
}

function noAnswer(path: string, within: number, what: string): ChainkeepError {
  return new ChainkeepError('CONNECTION_FAILED', `${path} did not answer within ${within / 1000} s: ${what}`, {
    advice: 'is another program connected to the monitor, or does the virtual machine hang?',
    retryable: true,
    context: { socket: path, waited_ms: within },
  });
}
