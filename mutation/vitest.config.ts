// The tests that a mutation run may use: those of one room, in process. The room comes in as CHAINKEEP_MUTATION_ROOM.
// A mutant is done with when its first test fails, so the quick files come first, and modules are loaded once for all of them.

import { basename } from 'node:path';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const room = process.env.CHAINKEEP_MUTATION_ROOM ?? '';
/** Files whose tests take seconds, mostly in programs that they start. */
const SLOW = ['image.test.ts', 'much-damage.test.ts', 'fallback.test.ts', 'restore.test.ts', 'verify.test.ts', 'run-transfer.test.ts'];

class QuickFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => SLOW.indexOf(basename(moduleId));
    return files.toSorted((a, b) => rank(a) - rank(b) || a.moduleId.localeCompare(b.moduleId));
  }
}

export default defineConfig({
  test: {
    include: [`test/${room}/**/*.test.ts`],
    exclude: ['**/node_modules/**', 'test/**/*.long.test.ts'],
    sequence: { sequencer: QuickFirst },
    isolate: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
