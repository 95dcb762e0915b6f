// Runs once before the tests, when the coverage of what they start is measured: strips the types from every source file, for strip-once.mjs.
// Types become blanks, so every position in a file stays what it is.

import { globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { dirname, join, resolve } from 'node:path';

export function setup(): void {
  if (!process.env.CHAINKEEP_CHILD_COVERAGE) return;
  const stripped = resolve('.compiled/stripped');
  rmSync(stripped, { recursive: true, force: true });
  for (const file of globSync('**/*.ts', { cwd: resolve('src') })) {
    const target = join(stripped, file);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, stripTypeScriptTypes(readFileSync(join(resolve('src'), file), 'utf8')));
  }
}
