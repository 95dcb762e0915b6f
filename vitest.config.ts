// How the tests run. Which files are left out (long ones, and those whose tools are missing) is decided in test/left-out.ts.

import { defineConfig } from 'vitest/config';
import { leftOutFiles } from './test/left-out.ts';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: leftOutFiles(),
    pool: 'forks',
    maxWorkers: '100%',
    testTimeout: 120_000,
    hookTimeout: 120_000,
    setupFiles: process.env.CHAINKEEP_CHILD_COVERAGE ? ['test/child-coverage.ts'] : [],
    coverage: {
      provider: 'v8',
      include: ['src/**/*.ts'],
      reporter: ['json'],
      reportOnFailure: true,
      reportsDirectory: 'coverage',
    },
  },
});
