// Faults of the system under the whole program: the campaign with its small count. Needs strace.

import { it } from 'vitest';
import { systemFaults } from '../../prove/system-faults.ts';
import { expectAllGood } from './run-small.ts';

it('every system call may fail', () => expectAllGood(systemFaults));
