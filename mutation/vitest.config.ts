// The tests that a mutation run may use: those of one room, in process, quick. The room comes in as CHAINKEEP_MUTATION_ROOM.

import { defineConfig } from 'vitest/config';

const room = process.env.CHAINKEEP_MUTATION_ROOM ?? '';

export default defineConfig({
  test: {
    include: [`test/${room}/**/*.test.ts`],
    exclude: ['**/node_modules/**', 'test/**/*.long.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
