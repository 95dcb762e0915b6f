// Faults of the store while a backup is locked, at each of its operations.

import { describe, it } from 'vitest';
import { tryLockFaults } from './lock-faults.ts';
import { scratchFolder } from './scratch-folder.ts';

const scratch = scratchFolder();

describe('a backup in an immutable repository', () => {
  for (const kind of ['marks', 'dates'] as const) {
    for (const [effect, sticky] of [
      ['before', true],
      ['after', true],
      ['before', false],
    ] as const) {
      it(`in a store with ${kind} that dies ${sticky ? 'for good' : 'once'} (${effect}) is protected, or not there`, () =>
        tryLockFaults(scratch, { kind, effect, sticky, stride: 1 }));
    }
  }
});
