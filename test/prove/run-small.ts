// A campaign as a test: the small count with a seed that does not change in `npm test`, the large one with another seed each time in
// `npm run test:all`. A failure shows the command that repeats it.

import { expect } from 'vitest';
import { type Campaign, runCampaign } from '../../prove/campaign.ts';

export async function expectAllGood(campaign: Campaign): Promise<void> {
  const large = process.env.CHAINKEEP_TEST_ALL !== undefined;
  const lines: string[] = [];
  const seed = large ? Math.floor(Math.random() * 2 ** 31) : 1;
  const outcome = await runCampaign(campaign, { count: large ? campaign.large : campaign.small, seed, say: (line) => lines.push(line) });
  process.stdout.write(`${campaign.name}: ${outcome.done} done, ${outcome.bad} bad\n`);
  expect(lines.filter((line) => line.startsWith('BAD') || line.startsWith('again'))).toEqual([]);
  expect(outcome.done).toBeGreaterThan(0);
}
