// A folder for thousands of small files: in memory where there is such a place, else in the temporary folder of the system.
// Its caller removes it; what must survive a run does not belong here.

import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export async function withMemoryFolder<Result>(use: (folder: string) => Promise<Result>): Promise<Result> {
  const memory = statSync('/dev/shm', { throwIfNoEntry: false })?.isDirectory() ? '/dev/shm' : tmpdir();
  const folder = mkdtempSync(join(memory, 'chainkeep-prove-'));
  try {
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
