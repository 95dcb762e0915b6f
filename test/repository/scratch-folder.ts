// A folder for the files of one test file, in memory where there is such a place. Only for tests; campaigns have the folder of their trial.

import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

/** Gone when the tests of the file are done; answers paths in it. */
export function scratchFolder(): (name: string) => string {
  const memory = statSync('/dev/shm', { throwIfNoEntry: false })?.isDirectory() ? '/dev/shm' : tmpdir();
  const folder = mkdtempSync(join(memory, 'chainkeep-test-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return (name) => join(folder, name);
}
