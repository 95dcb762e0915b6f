// Which image a case attacks, and with which mutations: both follow from seed and number, so a case can be told again in a line.
// It must not run anything.

import { Random } from '../random.ts';
import type { HostileImage } from './hostile-image.ts';
import { mutate } from './mutations.ts';

/** A recipe: the image, and the seed of each mutation. */
export interface Recipe {
  readonly image: number;
  readonly steps: readonly number[];
}

/** Attacks on an image of this many bytes take ten times as long; they are rare. */
const LARGE = 1024 ** 2;
const STEP_SEEDS = 2 ** 31;

export function planRecipe(images: readonly HostileImage[], random: Random): Recipe {
  let image = random.below(images.length);
  if ((images[image]?.base.bytes.length ?? 0) > LARGE && random.chance(0.9)) image = 0;
  return { image, steps: planSteps(random) };
}

export function planSteps(random: Random): number[] {
  return Array.from({ length: random.pick([1, 1, 2, 3, 5]) }, () => random.below(STEP_SEEDS));
}

/** The image as the recipe makes it; the caller resets it. */
export function prepare(images: readonly HostileImage[], { image, steps }: Recipe): HostileImage {
  const hostile = images[image];
  if (!hostile) throw new RangeError(`there is no image ${image}`);
  for (const step of steps) mutate(hostile, new Random(step));
  return hostile;
}

export function describeRecipe(images: readonly HostileImage[], { image, steps }: Recipe): string {
  return `${images[image]?.base.name} with steps ${steps.join(',')}`;
}
