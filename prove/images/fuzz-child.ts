// A process that attacks one image after the other and says what it found; whoever started it notices when it hangs, dies or swells.
// Before each case its number goes into a file, so that it is known which one it was.

import { openSync, writeSync } from 'node:fs';
import { Random } from '../random.ts';
import { attack } from './attack.ts';
import { loadBaseImages } from './base-images.ts';
import { BlockCoverage } from './coverage.ts';
import { HostileImage } from './hostile-image.ts';
import { describeRecipe, planRecipe, planSteps, prepare, type Recipe } from './plan.ts';

export interface FuzzTask {
  readonly folder: string;
  readonly seed: number;
  /** Case numbers, from one (inclusive) to the other (exclusive). */
  readonly from: number;
  readonly to: number;
  /** Keep what reaches new blocks, and go on from there. */
  readonly guided: boolean;
  /** The file that says which case is under way, and when it began. */
  readonly marker: string;
  /** This image alone, in a process of its own, under the number `from`. */
  readonly alone?: Recipe;
}

export interface FuzzReport {
  readonly done: number;
  readonly bad: readonly { readonly number: number; readonly faults: readonly string[] }[];
  /** The process has taken too much memory with this case and those before it. It is not counted yet: what it takes is seen when it runs alone. */
  readonly swollen?: { readonly number: number; readonly recipe: Recipe };
  readonly opened: number;
  readonly read: number;
  readonly refused: number;
  /** Inputs that reached something new, and the blocks of src/qcow2 that ran. */
  readonly kept: number;
  readonly blocks: number;
}

const MIB = 1024 ** 2;
export const MOST_MEMORY_MIB = 300;
const COLLECT_AT_MIB = 180;
/** A collection takes longer than a case: not before so much has piled up since the last one. */
const COLLECT_AGAIN_MIB = 8;
const REPORT_EVERY = 250;
/** Cases between two looks at the counters; where something new ran, it is the last of them that is looked for. */
const LOOK_EVERY = 8;

class FuzzRun {
  readonly #task: FuzzTask;
  readonly #images: HostileImage[];
  readonly #marker: number;
  readonly #coverage = new BlockCoverage();
  readonly #kept: Recipe[] = [];
  /** Bytes that were left after the last collection. */
  #collected = 0;
  #report: { done: number; bad: FuzzReport['bad'][number][]; opened: number; read: number; refused: number };

  constructor(task: FuzzTask) {
    this.#task = task;
    this.#images = loadBaseImages(task.folder).map((base) => new HostileImage(base));
    this.#marker = openSync(task.marker, 'w');
    this.#report = emptyReport();
  }

  async run(): Promise<void> {
    const { from, to, guided, alone } = this.#task;
    if (alone) {
      await this.#attack(from, alone, new Random(this.#task.seed, from));
      this.#send();
      return;
    }
    if (guided) await this.#coverage.start();
    let recent: { recipe: Recipe; random: Random }[] = [];
    for (let number = from; number < to; number++) {
      const random = new Random(this.#task.seed, number);
      const recipe = this.#plan(random);
      recent.push({ recipe, random });
      await this.#attack(number, recipe, random);
      if (guided && recent.length === LOOK_EVERY) {
        if ((await this.#coverage.takeNew()) > 0) this.#kept.push(...recent.map((one) => one.recipe));
        recent = [];
      }
      if (this.#report.done === REPORT_EVERY) this.#send();
    }
    this.#send();
    if (guided) this.#coverage.stop();
  }

  #plan(random: Random): Recipe {
    if (!this.#task.guided || this.#kept.length === 0 || random.chance(0.2)) return planRecipe(this.#images, random);
    const parent = random.pick(this.#kept.slice(-200));
    return { image: parent.image, steps: [...parent.steps.slice(-6), ...planSteps(random)] };
  }

  async #attack(number: number, recipe: Recipe, random: Random): Promise<void> {
    writeSync(this.#marker, Buffer.from(`${number} `.padEnd(20)), 0, 20, 0);
    const image = prepare(this.#images, recipe);
    const { faults, opened, read, refused } = await attack(image, random);
    image.reset();
    // What cases left behind must not add up: each is to show what it takes by itself.
    this.#collect();
    const memory = process.resourceUsage().maxRSS / 1024;
    if (memory > MOST_MEMORY_MIB && !this.#task.alone) {
      this.#send({ number, recipe });
      process.exit(0); // the next cases must not be blamed for it
    }
    this.#report.done += 1;
    this.#report.opened += opened ? 1 : 0;
    this.#report.read += read;
    this.#report.refused += refused;
    const all = memory > MOST_MEMORY_MIB ? [...faults, `the process has ${Math.round(memory)} MiB of memory`] : faults;
    const where = describeRecipe(this.#images, recipe);
    if (all.length > 0) this.#report.bad.push({ number, faults: all.map((fault) => `${where}: ${fault}`) });
  }

  #collect(): void {
    if (process.memoryUsage.rss() < Math.max(COLLECT_AT_MIB * MIB, this.#collected + COLLECT_AGAIN_MIB * MIB)) return;
    globalThis.gc?.();
    this.#collected = process.memoryUsage.rss();
  }

  #send(swollen?: FuzzReport['swollen']): void {
    const report: FuzzReport = { ...this.#report, kept: this.#kept.length, blocks: this.#coverage.blocks, ...(swollen && { swollen }) };
    process.send?.(report);
    this.#report = emptyReport();
  }
}

function emptyReport() {
  return { done: 0, bad: [], opened: 0, read: 0, refused: 0 };
}

const [task = '{}'] = process.argv.slice(2);
await new FuzzRun(JSON.parse(task)).run();
process.disconnect?.();
