// Bit rot: every byte of a small repository is changed, files are cut, lost, swapped and replaced by older ones, clusters change places.
// Verify must find each and name whom it hits, no restore may end well with other content, and a clean repository raises no alarm.

import { join } from 'node:path';
import type { Campaign } from './campaign.ts';
import { withMemoryFolder } from './memory-folder.ts';
import { type Family, familiesOf } from './rot/attacks.ts';
import { judgeAttack, judgeClean } from './rot/judge.ts';
import { judgeLosses, LOSSES } from './rot/losses.ts';
import { makeTwoChains } from './rot/two-chains.ts';

/** Of the cases with one changed bit, those that are restored as well. */
const RESTORED = 25;
const CLEAN = 1000;

interface Place {
  readonly family: Family | 'clean' | 'losses';
  readonly index: number;
}

export const rot: Campaign = {
  name: 'rot',
  about: 'bit rot: every damage of a repository is found, the right restore points are named, nothing wrong is restored, no false alarm',
  small: 80,
  large: 1_000_000,
  run: (trial) =>
    withMemoryFolder(async (folder) => {
      const chains = await makeTwoChains(join(folder, 'repository'), trial.seed);
      const places = choose(familiesOf(chains), trial.count);
      for (const number of trial.cases(places.length)) {
        const place = places[number];
        if (!place) throw new RangeError(`there is no case ${number}`);
        const { family, index } = place;
        if (family === 'clean') trial.ran(number, await judgeClean(chains));
        else if (family === 'losses') trial.ran(number, await judgeLosses(join(folder, `losses-${index}`), index));
        else {
          const attack = family.attack(index, trial.random(index));
          const faults = await judgeAttack(chains, attack, !family.oneBit || index % RESTORED === 0);
          trial.ran(
            number,
            faults.map((fault) => `${attack.what}: ${fault}`),
          );
        }
      }
    }),
};

/** All cases there are, or evenly many of each family, spread over it; fewer of those that start the program. */
function choose(families: readonly Family[], count: number): Place[] {
  const all = [...families.map((family) => ({ family, size: family.size })), { family: 'clean', size: CLEAN } as const];
  const total = all.reduce((sum, { size }) => sum + size, 0);
  const share = count >= total ? total : Math.ceil(count / all.length);
  const places = all.flatMap(({ family, size }): Place[] => {
    const wanted = Math.min(size, share);
    return Array.from({ length: wanted }, (_, index) => ({ family, index: Math.floor(((index + 0.5) * size) / wanted) }));
  });
  const losses = Array.from({ length: LOSSES }, (_, index): Place => ({ family: 'losses', index }));
  return [...losses, ...places];
}
