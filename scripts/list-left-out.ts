// Says on stderr, before the tests run, which test files this run leaves out and why.

import { globSync } from 'node:fs';
import { filesWithoutTools, hasMariadb } from '../test/left-out.ts';

for (const [file, tool] of filesWithoutTools()) console.error(`left out: ${file} (${tool} is not installed)`);
if (!process.env.CHAINKEEP_TEST_ALL) {
  for (const file of globSync('test/**/*.long.test.ts')) console.error(`left out: ${file} (long; npm run test:all runs it)`);
}
if (!hasMariadb()) console.error('left out: all tests on MariaDB (mariadbd is not installed)');
