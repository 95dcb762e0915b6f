// Files stay short: a warning above 400 lines, a failure above 500. An exception is listed here by name, so growth is a visible decision.
// (The length of functions is a rule of biome.)

import { globSync, readFileSync } from 'node:fs';

const WARN = 400;
const FAIL = 500;
/** Path → why it may be longer. */
const EXCEPTIONS: Readonly<Record<string, string>> = {};

let failed = 0;
for (const file of globSync(['src/**/*.ts', 'test/**/*.ts', 'bench/**/*.ts', 'prove/**/*.ts', 'mutation/*.ts', 'scripts/**/*']).sort()) {
  if (file.includes('/fixtures/')) continue;
  const lines = readFileSync(file, 'utf8').split('\n').length - 1;
  if (lines <= WARN || file in EXCEPTIONS) continue;
  console.error(`${lines > FAIL ? 'error' : 'warning'}: ${file} has ${lines} lines (warning above ${WARN}, failure above ${FAIL})`);
  if (lines > FAIL) failed += 1;
}
process.exitCode = failed === 0 ? 0 : 1;
