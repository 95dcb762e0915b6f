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

/** Undefined where nobody answers at the socket. `freezeWithin`: milliseconds. */
export async function openGuestAgent(path: string, { freezeWithin = FREEZE_WITHIN_MS } = {}): Promise<GuestAgent | undefined> {
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
      await dialog.ask('guest-fsfreeze-freeze', freezeWithin);
    },
    thaw: () => dialog.thaw(),
    close: () => dialog.close(),
  };
}

export interface GuestRestOptions {
  readonly onNotice: (notice: string) => void;
  /** A run that was killed may have left it so. */
  readonly mayBeFrozen: boolean;
}

/** Brings a guest to rest and wakes it up again. */
export class GuestRest {
  readonly #agent: GuestAgent;
  readonly #onNotice: (notice: string) => void;
  /** By us. */
  #mayBeFrozen: boolean;

  constructor(agent: GuestAgent, { onNotice, mayBeFrozen }: GuestRestOptions) {
    this.#agent = agent;
    this.#onNotice = onNotice;
    this.#mayBeFrozen = mayBeFrozen;
  }

  /**
   * Runs `work` while the guest is at rest; where it cannot be brought there a notice says so, and the point in time is one as after a power loss. The
   * guest is thawed before this resolves, also when `work` fails.
   */
  async around<T>(work: () => Promise<T>): Promise<T> {
    await this.#freeze();
    try {
      return await work();
    } finally {
      await this.wake();
    }
  }

  /** Where it may be frozen; a notice says when it cannot be thawed. To be called once more when a run ends: a guest that was busy may answer by then. */
  async wake(): Promise<void> {
    for (let left = 3; left > 0 && this.#mayBeFrozen; left -= 1) {
      try {
        await this.#agent.thaw();
        this.#mayBeFrozen = false;
      } catch (error) {
        if (left === 1) this.#onNotice(`the guest could not be thawed, look at it now: ${messageOf(error)}`);
      }
    }
  }

  close(): void {
    this.#agent.close();
  }

  async #freeze(): Promise<void> {
    try {
      if ((await this.#agent.status()) === 'frozen') {
        this.#onNotice('the file systems of the guest are frozen already, by somebody else who must thaw them');
        return;
      }
      // Also when it fails: it may be frozen after all, too late to tell.
      this.#mayBeFrozen = true;
      await this.#agent.freeze();
    } catch (error) {
      this.#onNotice(`the guest was not brought to rest, the backup is as after a power loss: ${messageOf(error)}`);
      await this.wake();
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

  /** What the agent still had to say, to us or to whoever was here before us, is left behind. */
  async sync(within = SYNC_WITHIN_MS): Promise<void> {
    const id = randomInt(1, 2 ** 31);
    this.#socket?.sendBytes(Uint8Array.of(0xff));
    await this.#request({ execute: 'guest-sync-delimited', arguments: { id } }, within, (answer) => answer.return === id);
    this.#isInStep = true;
  }

  /** Also of an agent that is still busy with the freezing: it takes commands in their order, and says with the mark behind that it has come so far. */
  async thaw(): Promise<void> {
    const command = 'guest-fsfreeze-thaw';
    if (this.#isInStep) {
      await this.ask(command, THAW_WITHIN_MS);
      return;
    }
    this.#socket?.send({ execute: command });
    await this.sync(THAW_WITHIN_MS);
    if ((await this.ask('guest-fsfreeze-status', SYNC_WITHIN_MS)) === 'frozen')
      throw new ChainkeepError('HYPERVISOR_FAILED', 'the guest agent was asked to thaw and is still frozen', {
        advice: 'look at the agent in the guest',
      });
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
