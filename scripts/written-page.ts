// Pages of the documentation that are made from code: written, or with `--check` compared with what is there.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

/** Writes `file`; with `--check` on the command line it fails when the file is not what would be written. */
export function writePage(file: string, text: string): void {
  if (!process.argv.includes('--check')) {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
    return;
  }
  if (readIfThere(file) === text) return;
  console.error(`error: ${file} is not up to date; run: npm run docs`);
  process.exitCode = 1;
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined; // not written yet: that is not up to date
  }
}
