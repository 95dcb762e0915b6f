// `npm run prove -- [what] [count] [--seed N] [--case N]`: attacks the program on this machine and says what held.
// Without `what` every campaign runs, each with its small count. Ends with 1 when anything was bad.

import { parseArgs } from 'node:util';
import type { Campaign } from './campaign.ts';
import { runCampaign } from './campaign.ts';
import { CAMPAIGNS } from './campaigns.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seed: { type: 'string' }, case: { type: 'string' }, list: { type: 'boolean' } },
});
const [what, count] = positionals;

function wholeNumber(text: string, name: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new RangeError(`${name} must be a whole number, not "${text}"`);
  return Number(text);
}

function chosen(): readonly Campaign[] {
  if (what === undefined || what === 'all') return CAMPAIGNS;
  const campaign = CAMPAIGNS.find(({ name }) => name === what);
  if (!campaign) throw new RangeError(`there is no campaign "${what}"; there are: ${CAMPAIGNS.map(({ name }) => name).join(', ')}`);
  return [campaign];
}

async function main(): Promise<void> {
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : wholeNumber(values.seed, '--seed');
  const only = values.case === undefined ? {} : { only: wholeNumber(values.case, '--case') };
  const say = (line: string): void => console.log(`  ${line}`);
  let bad = 0;
  for (const campaign of chosen()) {
    console.log(`${campaign.name}: ${campaign.about}`);
    const began = performance.now();
    const wanted = count === undefined ? campaign.small : wholeNumber(count, 'the count');
    const outcome = await runCampaign(campaign, { count: wanted, seed, say, ...only });
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    console.log(`${campaign.name}: ${outcome.done} done, ${outcome.bad} bad (seed ${seed}, ${seconds} s)`);
    bad += outcome.bad + (outcome.done === 0 ? 1 : 0);
  }
  process.exitCode = bad === 0 ? 0 : 1;
}

if (values.list)
  for (const { name, about, small, large } of CAMPAIGNS) console.log(`${name}  ${about} (${small} in npm test, ${large} in test:all)`);
else {
  await main().catch((error: unknown) => {
    console.error(`error: ${error instanceof RangeError ? error.message : error instanceof Error ? error.stack : String(error)}`);
    process.exitCode = error instanceof RangeError ? 2 : 1;
  });
}
