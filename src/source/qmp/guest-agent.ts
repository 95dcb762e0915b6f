// The agent in the guest: asked to bring its file systems to rest for the moment in which the point in time is taken.
// Whatever happens, what was frozen is thawed; a guest that stays frozen is worse than a backup that is only as after a power loss.

import { randomInt } from 'node:crypto';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { type Answer, asAnswer, isAnswer, odd, textOf } from './answer-fields.ts';
import { type JsonSocket, openJsonSocket } from './json-socket.ts';

/** An agent that is there answers at once; where there is none, the socket is silent. */
const SYNC_WITHIN_MS = 3000;
/** Windows brings its writers to rest first, which takes time. */
const FREEZE_WITHIN_MS = 60_000;
const THAW_WITHIN_MS = 30_000;

export interface GuestAgent {
  /** `thawed` or `frozen`. */
  status(): Promise<string>;
  freeze(): Promise<void>;
  thaw(): Promise<void>;
  close(): void;
}

/** Undefined where nobody answers at the socket. */
export async function openGuestAgent(path: string): Promise<GuestAgent | undefined> {
  const dialog = new AgentDialog();
  try {
    await dialog.open(path);
    await dialog.sync();
  } catch (error) {
    dialog.close();
    if (error instanceof ChainkeepError) return undefined;
    throw error;
  }
  return {
    status: async () => {
      const status = await dialog.ask('guest-fsfreeze-status', SYNC_WITHIN_MS);
      if (typeof status === 'string') return status;
      throw odd('guest-fsfreeze-status', 'is no text');
    },
    freeze: async () => {
      await dialog.ask('guest-fsfreeze-freeze', FREEZE_WITHIN_MS);
    },
    thaw: async () => {
      await dialog.ask('guest-fsfreeze-thaw', THAW_WITHIN_MS);
    },
    close: () => dialog.close(),
  };
}

/**
 * Runs `work` while the guest is at rest. `onNotice` hears where it is not: then the point in time is one as after a power loss. The guest is
 * thawed before this resolves, also when `work` fails.
 */
export async function withFrozenGuest<T>(agent: GuestAgent, onNotice: (notice: string) => void, work: () => Promise<T>): Promise<T> {
  if (!(await freeze(agent, onNotice))) return work();
  try {
    return await work();
  } finally {
    await thaw(agent, onNotice);
  }
}

/** A run that was killed may have left the guest frozen. */
export async function thawAfterKill(agent: GuestAgent, onNotice: (notice: string) => void): Promise<void> {
  try {
    if ((await agent.status()) === 'thawed') return;
  } catch {
    // Whatever it is, thawing a guest that is not frozen does no harm.
  }
  await thaw(agent, onNotice);
}

async function freeze(agent: GuestAgent, onNotice: (notice: string) => void): Promise<boolean> {
  try {
    if ((await agent.status()) === 'frozen') {
      onNotice('the file systems of the guest are frozen already, by somebody else who must thaw them');
      return false;
    }
    await agent.freeze();
    return true;
  } catch (error) {
    onNotice(`the guest was not brought to rest, the backup is as after a power loss: ${messageOf(error)}`);
    // It may have been frozen after all, too late to tell.
    await thaw(agent, () => undefined);
    return false;
  }
}

async function thaw(agent: GuestAgent, onNotice: (notice: string) => void): Promise<void> {
  for (let left = 3; left > 0; left -= 1) {
    try {
      return await agent.thaw();
    } catch (error) {
      if (left === 1) onNotice(`the guest could not be thawed, look at it now: ${messageOf(error)}`);
    }
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** One command at a time. After an answer that came too late the next one is asked only behind a new mark (`sync`). */
class AgentDialog {
  #socket: JsonSocket | undefined;
  #ended: ChainkeepError | undefined;
  #isInStep = false;
  #onAnswer: ((answer: Answer) => void) | undefined;
  #onEnd: ((error: ChainkeepError) => void) | undefined;

  async open(path: string): Promise<void> {
    this.#socket = await openJsonSocket(path, {
      onDocument: (document) => (isAnswer(document) ? this.#onAnswer?.(document) : undefined),
      onEnd: (error) => {
        this.#ended ??= error;
        this.#onEnd?.(error);
      },
    });
  }

  /** What the agent still had to say to whoever was here before us is left behind. */
  async sync(): Promise<void> {
    const id = randomInt(1, 2 ** 31);
    this.#socket?.sendBytes(Uint8Array.of(0xff));
    await this.#request({ execute: 'guest-sync-delimited', arguments: { id } }, SYNC_WITHIN_MS, (answer) => answer.return === id);
    this.#isInStep = true;
  }

  async ask(command: string, within: number): Promise<unknown> {
    if (!this.#isInStep) await this.sync();
    const answer = await this.#request({ execute: command }, within, () => true);
    if ('return' in answer) return answer.return;
    const desc = textOf(asAnswer(answer.error, command), 'desc', command);
    throw new ChainkeepError('HYPERVISOR_FAILED', `the guest agent refuses ${command}: ${desc}`, {
      advice: 'look at the agent in the guest',
      context: { command, desc },
    });
  }

  close(): void {
    this.#socket?.close();
  }

  #request(request: Answer, within: number, isWanted: (answer: Answer) => boolean): Promise<Answer> {
    this.#isInStep = false;
    return new Promise((resolve, reject) => {
      if (this.#ended) {
        reject(this.#ended);
        return;
      }
      const settle = (): void => {
        clearTimeout(timer);
        this.#onAnswer = undefined;
        this.#onEnd = undefined;
      };
      const timer = setTimeout(() => {
        settle();
        reject(noAnswer(String(request.execute), within));
      }, within);
      this.#onAnswer = (answer) => {
        if (!isWanted(answer)) return;
        settle();
        this.#isInStep = true;
        resolve(answer);
      };
      this.#onEnd = (error) => {
        settle();
        reject(error);
      };
      this.#socket?.send(request);
    });
  }
}

function noAnswer(command: string, within: number): ChainkeepError {
  return new ChainkeepError('CONNECTION_FAILED', `the guest agent did not answer ${command} within ${within / 1000} s`, {
    advice: 'is the agent running in the guest (qemu-guest-agent)?',
    retryable: true,
  });
}
