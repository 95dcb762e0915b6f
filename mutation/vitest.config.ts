// The tests that a mutation run may use: those of one room, in process, quick. The room comes in as CHAINKEEP_MUTATION_ROOM.
// Every mutant runs all files that touch it, so modules are loaded once for all of them, and files that start other programs are left out.

import { defineConfig } from 'vitest/config';

const room = process.env.CHAINKEEP_MUTATION_ROOM ?? '';
/** A run of these takes seconds, for each of thousands of mutants. */
const STARTS_PROGRAMS = ['qcow2/image', 'qcow2/hostile-names', 'repository/fallback', 'repository/much-damage'];

export default defineConfig({
  test: {
    include: [`test/${room}/**/*.test.ts`],
    exclude: ['**/node_modules/**', 'test/**/*.long.test.ts', ...STARTS_PROGRAMS.map((file) => `test/${file}.test.ts`)],
    isolate: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
