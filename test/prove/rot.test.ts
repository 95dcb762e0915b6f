// Bit rot, with an even spread of the cases; all of them in `npm run test:all`, which takes most of an hour.

import { it } from 'vitest';
import { rot } from '../../prove/rot.ts';
import { expectAllGood } from './run-small.ts';

it('finds all bit rot', async () => {
  await expectAllGood(rot);
}, 7_200_000);
