// Log lines that wait to be written: in order, bounded, and what was lost is counted.
// It must not know the database.

import type { LogLevel } from '../plumbing/logger.ts';

export interface WaitingEvent {
  readonly level: LogLevel;
  readonly message: string;
  /** JSON, or null. */
  readonly attrs: string | null;
  readonly stepId: string | null;
  /** ISO 8601 with microseconds. */
  readonly ts: string;
  /** When it came, by the steady clock. */
  readonly since: number;
}

export interface EventBound {
  readonly events: number;
  /** Characters of messages and attributes. */
  readonly characters: number;
}

/** Ten seconds of ten thousand lines each, while the database does not answer. */
export const EVENT_BOUND: EventBound = { events: 100_000, characters: 32 * 1024 * 1024 };

// Beyond the bound the oldest go until this part of it is left, so that room is not made anew for each line.
const KEPT_PART = 0.9;
/** Which lines are lost first: nobody needs a debug line more than the error that explains it. */
const LOSE_FIRST: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];

export class EventBuffer {
  readonly #bound: EventBound;
  #events: WaitingEvent[] = [];
  #characters = 0;
  /** Lines that were lost since this was last asked, by level, and the time of the first. */
  #lost = new Map<LogLevel, number>();
  #lostSince: string | undefined;

  constructor(bound: EventBound) {
    this.#bound = bound;
  }

  get size(): number {
    return this.#events.length;
  }

  /** When the oldest line that waits came. */
  get waitingSince(): number | undefined {
    return this.#events[0]?.since;
  }

  append(event: WaitingEvent): void {
    this.#events.push(event);
    this.#characters += charactersOf(event);
    if (this.#isOver()) this.#makeRoom();
  }

  /** The oldest ones, at most `most`. */
  take(most: number): WaitingEvent[] {
    const taken = this.#events.splice(0, most);
    for (const event of taken) this.#characters -= charactersOf(event);
    return taken;
  }

  /** What was taken and could not be written. */
  putBack(events: readonly WaitingEvent[]): void {
    this.#events = [...events, ...this.#events];
    for (const event of events) this.#characters += charactersOf(event);
    if (this.#isOver()) this.#makeRoom();
  }

  countLost(event: WaitingEvent): void {
    this.#lost.set(event.level, (this.#lost.get(event.level) ?? 0) + 1);
    if (this.#lostSince === undefined || event.ts < this.#lostSince) this.#lostSince = event.ts;
  }

  /** A line that says what was lost, once; undefined when nothing was. */
  takeLost(): WaitingEvent | undefined {
    if (this.#lostSince === undefined) return undefined;
    const count = [...this.#lost.values()].reduce((sum, lost) => sum + lost, 0);
    const event: WaitingEvent = {
      level: 'warn',
      message: `${count} lines of this log were lost: the database could not be written to`,
      attrs: JSON.stringify({ lost: Object.fromEntries(this.#lost) }),
      stepId: null,
      ts: this.#lostSince,
      since: this.#events[0]?.since ?? 0,
    };
    this.#lost = new Map();
    this.#lostSince = undefined;
    return event;
  }

  #isOver(): boolean {
    return this.#events.length > this.#bound.events || this.#characters > this.#bound.characters;
  }

  #makeRoom(): void {
    let left = this.#events.length;
    for (const level of LOSE_FIRST) {
      this.#events = this.#events.filter((event) => {
        const fits = left <= this.#bound.events * KEPT_PART && this.#characters <= this.#bound.characters * KEPT_PART;
        if (fits || event.level !== level) return true;
        left -= 1;
        this.#characters -= charactersOf(event);
        this.countLost(event);
        return false;
      });
    }
  }
}

function charactersOf({ message, attrs }: WaitingEvent): number {
  return message.length + (attrs?.length ?? 0);
}
