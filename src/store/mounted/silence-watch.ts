// Notices that a process which was asked something does not answer any more. What is slow and goes on answering is left alone: only the oldest
// question counts, and how long it has been the oldest.

/** Looks a minute of silence is divided into. Counting looks, not time: a machine that slept, or was stopped, has not heard its answers yet. */
const LOOKS = 12;

export class SilenceWatch {
  readonly #limit: number;
  readonly #onSilence: () => void;
  readonly #open = new Set<number>();
  #timer: NodeJS.Timeout | undefined;
  #oldest: number | undefined;
  #looks = 0;

  /** `limit`: milliseconds. */
  constructor(limit: number, onSilence: () => void) {
    this.#limit = limit;
    this.#onSilence = onSilence;
  }

  asked(id: number): void {
    this.#open.add(id);
    // While it is set the process stays alive: somebody waits for an answer.
    this.#timer ??= setInterval(() => this.#look(), this.#limit / LOOKS);
  }

  answered(id: number): void {
    this.#open.delete(id);
    if (this.#open.size === 0) this.stop();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#oldest = undefined;
    this.#looks = 0;
  }

  #look(): void {
    const [oldest] = this.#open; // a set keeps the order in which its members came
    if (oldest !== this.#oldest) {
      this.#oldest = oldest;
      this.#looks = 0;
      return;
    }
    this.#looks += 1;
    if (this.#looks < LOOKS) return;
    this.stop();
    this.#onSilence();
  }
}
