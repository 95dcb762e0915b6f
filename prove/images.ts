// Hostile images: mutations of healthy ones of known content, through the library and, for some of them, through the whole program.
//
// The judge is images/judge.ts, which reads the tables of the image as it is now in the plainest way and shares no code with src/qcow2;
// raw deflate it decodes itself. Before the first attack it must read every healthy image as qemu-img does. What it can read, the product
// must read the same, and where it says that the format does not decide, the product must refuse. qemu-img is no judge of a damaged image:
// it reads zeros for what is not in the file.
//
// The first cases are drawn at random, the next tenth is guided by coverage (inputs that reach new blocks of src/qcow2 are mutated on; one
// of these is repeated by running those before it), the last few go through the commands of the program.

import { join } from 'node:path';
import type { Campaign, Trial } from './campaign.ts';
import { makeBaseImages } from './images/base-images.ts';
import type { FuzzReport } from './images/fuzz-child.ts';
import { runFuzz } from './images/fuzz-pool.ts';
import { attackProgram } from './images/program.ts';
import { Random } from './random.ts';

const SEED_OF_IMAGES = 1;

export const images: Campaign = {
  name: 'images',
  about: 'damaged and hostile images are read right or refused: no crash, hang, read outside the file, or other content',
  small: 600,
  large: 200_000,
  run,
};

/** Where the guided cases begin, and those that go through the program. */
function shares(count: number): { readonly guidedFrom: number; readonly programFrom: number } {
  const programFrom = count - Math.max(1, Math.floor(count / 2000));
  return { guidedFrom: Math.min(programFrom, Math.ceil(count * 0.9)), programFrom };
}

async function run(trial: Trial): Promise<void> {
  await makeBaseImages(trial.folder, new Random(SEED_OF_IMAGES));
  const { guidedFrom, programFrom } = shares(trial.count);
  const chosen = [...trial.cases()];
  const only = chosen.length === 1 ? chosen[0] : undefined;
  const tally = new Tally(trial, only);
  const began = performance.now();
  const task = (from: number, to: number, guided: boolean) =>
    runFuzz({ folder: trial.folder, seed: trial.seed, from, to, guided, marker: join(trial.folder, `case-${from}`) }, (report) =>
      tally.add(report, from),
    );
  if (only === undefined) {
    const middle = Math.floor(guidedFrom / 2);
    await Promise.all([task(0, middle, false), task(middle, guidedFrom, false), task(guidedFrom, programFrom, true)]);
    tally.note((performance.now() - began) / 1000);
  } else if (only < guidedFrom) await task(only, only + 1, false);
  else if (only < programFrom) await task(guidedFrom, only + 1, true);
  for (const number of chosen) if (number >= programFrom) trial.ran(number, await attackProgram(trial.folder, trial.random(number)));
}

/** What the processes report, as cases of the trial. */
class Tally {
  readonly #trial: Trial;
  readonly #only: number | undefined;
  readonly #total = { done: 0, opened: 0, read: 0, refused: 0, kept: 0, blocks: 0 };

  constructor(trial: Trial, only: number | undefined) {
    this.#trial = trial;
    this.#only = only;
  }

  add(report: FuzzReport, anyCase: number): void {
    const bad = report.bad.filter(({ number }) => this.#only === undefined || number === this.#only);
    for (const { number, faults } of bad) this.#trial.ran(number, faults);
    const good = this.#only === undefined ? report.done - bad.length : report.done > 0 && bad.length === 0 ? 1 : 0;
    for (let left = good; left > 0; left--) this.#trial.ran(anyCase, []);
    for (const key of ['done', 'opened', 'read', 'refused'] as const) this.#total[key] += report[key];
    for (const key of ['kept', 'blocks'] as const) this.#total[key] = Math.max(this.#total[key], report[key]);
  }

  note(seconds: number): void {
    const { done, opened, read, refused, kept, blocks } = this.#total;
    this.#trial.note(`${done} images in ${seconds.toFixed(1)} s, ${Math.round(done / seconds)} a second; ${opened} were opened`);
    this.#trial.note(
      `${read} reads gave the right bytes, ${refused} were rightly refused; ${kept} inputs kept for ${blocks} blocks reached`,
    );
  }
}
