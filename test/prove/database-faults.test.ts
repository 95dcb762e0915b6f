// The campaign of a failing database server, with its small count.

import { it } from 'vitest';
import { databaseFaults } from '../../prove/database-faults.ts';
import { expectAllGood } from './run-small.ts';

// For what hangs, not for what is slow.
const LIMIT_MS = 300_000 + (process.env.CHAINKEEP_TEST_ALL ? databaseFaults.large * 15_000 : 0);

it('no half state stays when the database server fails', { timeout: LIMIT_MS }, () => expectAllGood(databaseFaults));
