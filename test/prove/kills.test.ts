// The campaign of kills, with its small count.

import { it } from 'vitest';
import { kills } from '../../prove/kills.ts';
import { expectAllGood } from './run-small.ts';

// For what hangs, not for what is slow.
const LIMIT_MS = 300_000 + (process.env.CHAINKEEP_TEST_ALL ? kills.large * 10_000 : 0);

it('nothing completed is lost by a kill', { timeout: LIMIT_MS }, () => expectAllGood(kills));
