// The campaign of a failing object store, with its small count.

import { it } from 'vitest';
import { objectFaults } from '../../prove/object-faults.ts';
import { expectAllGood } from './run-small.ts';

// For what hangs, not for what is slow.
const LIMIT_MS = 300_000 + (process.env.CHAINKEEP_TEST_ALL ? objectFaults.large * 15_000 : 0);

it('nothing is lost and nothing falsely reported when requests to an object store fail', { timeout: LIMIT_MS }, () =>
  expectAllGood(objectFaults),
);
