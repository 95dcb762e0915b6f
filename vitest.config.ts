// How the tests run. Which files are left out (long ones, and those whose tools are missing) is decided in test/left-out.ts.

import { defineConfig, type TestProjectInlineConfiguration } from 'vitest/config';
import { hasMariadb, hasRgw, leftOutFiles } from './test/left-out.ts';

/** Run once more with MariaDB as the database. */
const ON_BOTH_DATABASES = [
  'test/catalog/**/*.test.ts',
  'test/control/**/*.test.ts',
  'test/jobs/**/*.test.ts',
  'test/flow/{main-flow,at-once,delete-waits,interrupted,jobs,database-check}.test.ts',
];
/** Files of SQLite, and what only they have. */
const ONLY_SQLITE = ['test/catalog/migrations.test.ts', 'test/control/owner.test.ts'];
const ONLY_MARIADB = ['test/catalog/mariadb/**/*.test.ts'];

const MARIADB = {
  extends: true,
  test: {
    name: 'on MariaDB',
    include: [...ON_BOTH_DATABASES, ...ONLY_MARIADB],
    exclude: [...leftOutFiles(), ...ONLY_SQLITE],
    env: { CHAINKEEP_TEST_DATABASE: 'mariadb' },
    globalSetup: ['test/servers/mariadb-setup.ts'],
  },
} satisfies TestProjectInlineConfiguration;

/** Files that need a server for S3. */
const ON_S3 = ['test/store/s3/**/*.test.ts', 'test/flow/s3-*.test.ts', 'test/prove/object-faults*.test.ts'];

const S3 = {
  extends: true,
  test: { name: 'on S3', include: ON_S3, exclude: leftOutFiles(), globalSetup: ['test/servers/rgw-setup.ts'] },
} satisfies TestProjectInlineConfiguration;

export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: '100%',
    testTimeout: 120_000,
    hookTimeout: 120_000,
    globalSetup: ['test/strip-sources.ts'],
    projects: [
      {
        extends: true,
        test: {
          name: 'all',
          include: ['test/**/*.test.ts'],
          exclude: [...leftOutFiles(), ...ONLY_MARIADB, ...ON_S3],
          // What the tests start runs much slower while it is measured; once is enough, not again on the other database.
          setupFiles: process.env.CHAINKEEP_CHILD_COVERAGE ? ['test/child-coverage.ts'] : [],
        },
      },
      ...(hasMariadb() ? [MARIADB] : []),
      ...(hasRgw() ? [S3] : []),
    ],
    coverage: {
      provider: 'v8',
      include: ['src/**/*.ts'],
      reporter: ['json'],
      reportOnFailure: true,
      reportsDirectory: 'coverage',
    },
  },
});
