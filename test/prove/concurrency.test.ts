// The campaign of processes at once, with its small count.

import { it } from 'vitest';
import { concurrency } from '../../prove/concurrency.ts';
import { expectAllGood } from './run-small.ts';

// For what hangs, not for what is slow.
const LIMIT_MS = 300_000 + (process.env.CHAINKEEP_TEST_ALL ? concurrency.large * 30_000 : 0);

it('nothing is lost when several processes work at once', { timeout: LIMIT_MS }, () => expectAllGood(concurrency));
