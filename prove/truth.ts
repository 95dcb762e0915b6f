// The campaign "truth": random chains of random disks, against a model in memory that knows every byte of every restore point.
// It attacks nothing; it looks whether what the program reports as good is good.

import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Campaign } from './campaign.ts';
import { withMemoryFolder } from './memory-folder.ts';
import type { Random } from './random.ts';
import { judgeStory } from './truth/judges.ts';
import type { Keeper } from './truth/keeper.ts';
import { depthOf } from './truth/known-chains.ts';
import { openProgramKeeper } from './truth/program-keeper.ts';
import { openRepositoryKeeper } from './truth/repository-keeper.ts';
import { tellStory } from './truth/story.ts';

export const truth: Campaign = {
  name: 'truth',
  about: 'random chains, each restore point read back through the program and by qemu-img from the images alone',
  small: 7,
  large: 500,
  run: (trial) =>
    withMemoryFolder(async (folder) => {
      const figures = { points: 0, deepest: 0 };
      for (const testCase of trial.cases())
        trial.ran(testCase, await runCase(join(folder, String(testCase)), testCase, trial.random(testCase), figures));
      trial.note(`${figures.points} restore points compared, in chains of up to ${figures.deepest} images`);
    }),
};

interface Figures {
  points: number;
  deepest: number;
}

// One story in eight is told to the program, whose commands take their time (one in 64 is a long one of these), and one in eight is long.
const EVERY = 8;
const LONG_BY_PROGRAM_EVERY = 64;
const LONGEST = 60;

async function runCase(folder: string, testCase: number, random: Random, figures: Figures): Promise<readonly string[]> {
  mkdirSync(join(folder, 'read back'), { recursive: true });
  try {
    const root = join(folder, 'repository');
    const byProgram = testCase % EVERY === 3;
    const keeper = byProgram ? await openProgramKeeper(root, join(folder, 'home'), random.chance(0.8)) : await openRepositoryKeeper(root);
    return await judgeCase(keeper, random, { folder, steps: chooseSteps(testCase, byProgram, random) }, figures);
  } catch (error) {
    return [`unexpected: ${error instanceof Error ? error.stack : String(error)}`];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function chooseSteps(testCase: number, byProgram: boolean, random: Random): number {
  if (byProgram) return testCase % LONG_BY_PROGRAM_EVERY === 3 + EVERY ? LONGEST : random.between(1, 6);
  return testCase % EVERY === 6 ? random.between(21, LONGEST) : random.between(1, 9);
}

/** `folder` has a folder "read back" in it. */
export async function judgeCase(
  keeper: Keeper,
  random: Random,
  { folder, steps }: { readonly folder: string; readonly steps: number },
  figures: Figures,
): Promise<readonly string[]> {
  const story = await tellStory({ keeper, random, steps, path: join(folder, 'disk') });
  figures.points += story.points.length;
  figures.deepest = Math.max(figures.deepest, ...story.points.map(depthOf));
  if (story.points.length === 0) return story.faults;
  return [...story.faults, ...(await judgeStory(keeper, story, join(folder, 'read back'), random))];
}
