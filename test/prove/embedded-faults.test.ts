// The campaign of a failing embedded database, with its small count. Needs the right to mount for the cases in which its disk is full.

import { it } from 'vitest';
import { embeddedFaults } from '../../prove/embedded-faults.ts';
import { expectAllGood } from './run-small.ts';

// For what hangs, not for what is slow.
const LIMIT_MS = 300_000 + (process.env.CHAINKEEP_TEST_ALL ? embeddedFaults.large * 10_000 : 0);

it('no half state stays when the embedded database fails', { timeout: LIMIT_MS }, () => expectAllGood(embeddedFaults));
