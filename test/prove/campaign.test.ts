// The harness of the campaigns: what is counted, what is said, what can be repeated.

import { existsSync } from 'node:fs';
import { expect, it } from 'vitest';
import { type Campaign, runCampaign, Trial } from '../../prove/campaign.ts';
import { Random } from '../../prove/random.ts';

const silent = { seed: 3, say: () => undefined };

it('counts cases, and says of each bad one how to see it again', async () => {
  let folder = '';
  const campaign: Campaign = {
    name: 'thirds',
    about: 'every third case fails',
    small: 1,
    large: 1,
    run: async (trial) => {
      folder = trial.folder;
      expect(existsSync(folder)).toBe(true);
      for (const number of trial.cases()) trial.ran(number, number % 3 === 0 ? ['it is a third'] : []);
    },
  };
  const lines: string[] = [];
  expect(await runCampaign(campaign, { count: 7, seed: 3, say: (line) => lines.push(line) })).toEqual({ done: 7, bad: 3 });
  expect(lines.slice(0, 2)).toEqual(['BAD thirds, case 0: it is a third', 'again: npm run prove -- thirds 7 --seed 3 --case 0']);
  expect(existsSync(folder)).toBe(false);
  expect(await runCampaign(campaign, { ...silent, count: 7, only: 6 })).toEqual({ done: 1, bad: 1 });
});

it('spreads its cases over all that there are, and takes all when it may', () => {
  const trial = new Trial({ ...silent, campaign: 'x', count: 4 });
  expect([...trial.cases(100)]).toEqual([12, 37, 62, 87]);
  expect([...trial.cases(3)]).toEqual([0, 1, 2]);
  expect([...trial.cases()]).toEqual([0, 1, 2, 3]);
  trial.close();
});

it('draws the same numbers for the same seed and case, and others for others', () => {
  const draw = (seed: number, number: number): string => new Random(seed, number).bytes(9).toString('hex');
  expect(draw(1, 1)).toBe(draw(1, 1));
  expect(new Set([draw(1, 1), draw(1, 2), draw(2, 1), draw(2, 2)]).size).toBe(4);
});
