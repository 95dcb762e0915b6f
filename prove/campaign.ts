// What a campaign of proof is, and the trial it runs in: cases that follow from a seed, a count of what was done, a list of what went wrong.
// It must not know what is attacked: each campaign has a file of its own.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Random } from './random.ts';

export interface Campaign {
  /** As on the command line. */
  readonly name: string;
  /** One line for people: what is attacked, and what must hold. */
  readonly about: string;
  /** Cases in `npm test` and in `npm run test:all`. */
  readonly small: number;
  readonly large: number;
  /** Runs the cases of the trial and tells it of each. Throws only when the campaign itself cannot go on. */
  run(trial: Trial): Promise<void>;
}

export interface TrialOptions {
  readonly campaign: string;
  readonly count: number;
  readonly seed: number;
  /** Only this case, to see it again. */
  readonly only?: number;
  /** Hears each failure and each note as it comes. */
  readonly say: (line: string) => void;
}

const SAY_AFTER_MS = 60_000;

/** One run of a campaign. The scratch folder is gone after `close`. */
export class Trial {
  readonly count: number;
  readonly seed: number;
  readonly folder: string;
  readonly #options: TrialOptions;
  #done = 0;
  #bad = 0;
  #said = performance.now();

  constructor(options: TrialOptions) {
    this.#options = options;
    this.count = options.count;
    this.seed = options.seed;
    this.folder = mkdtempSync(join(tmpdir(), `chainkeep-prove-${options.campaign}-`));
  }

  get done(): number {
    return this.#done;
  }

  get bad(): number {
    return this.#bad;
  }

  /** The numbers of the cases to run, of `total` that there are (without it, as many as were asked for): all, or spread evenly over them. */
  *cases(total: number = this.count): Generator<number> {
    const { only } = this.#options;
    if (only !== undefined) {
      yield only;
      return;
    }
    const wanted = Math.min(this.count, total);
    for (let index = 0; index < wanted; index++) yield Math.floor(((index + 0.5) * total) / wanted);
  }

  /** Random numbers of one case: the same for the same seed and case, whatever ran before. */
  random(testCase: number): Random {
    return new Random(this.seed, testCase);
  }

  /** The case was run, and `faults` is what did not hold; each is said with the command that repeats it. */
  ran(testCase: number, faults: readonly string[]): void {
    this.#done += 1;
    this.#sayHowFar();
    if (faults.length === 0) return;
    this.#bad += 1;
    const { campaign, say } = this.#options;
    for (const fault of faults) say(`BAD ${campaign}, case ${testCase}: ${fault}`);
    say(`again: npm run prove -- ${campaign} ${this.count} --seed ${this.seed} --case ${testCase}`);
  }

  /** Large counts take hours. */
  #sayHowFar(): void {
    if (performance.now() - this.#said < SAY_AFTER_MS) return;
    this.#said = performance.now();
    this.#options.say(`${this.#done} done so far, ${this.#bad} bad`);
  }

  /** A figure worth knowing that is neither good nor bad. */
  note(line: string): void {
    this.#options.say(line);
  }

  close(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export interface Outcome {
  readonly done: number;
  readonly bad: number;
}

export async function runCampaign(campaign: Campaign, options: Omit<TrialOptions, 'campaign'>): Promise<Outcome> {
  const trial = new Trial({ ...options, campaign: campaign.name });
  try {
    await campaign.run(trial);
    return { done: trial.done, bad: trial.bad };
  } finally {
    trial.close();
  }
}
