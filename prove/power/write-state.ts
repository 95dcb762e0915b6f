// Puts a crash state into a folder, which holds nothing else after it.

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DiskState } from './crash-state.ts';

/** Only what lies below `part` of the state, when it is given; the names then begin behind it. */
export function writeState(folder: string, state: DiskState, part = ''): void {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const path of state.folders) if (path.startsWith(part)) mkdirSync(join(folder, path.slice(part.length)), { mode: 0o700 });
  for (const [path, { bytes }] of state.files)
    if (path.startsWith(part)) writeFileSync(join(folder, path.slice(part.length)), bytes, { mode: 0o600 });
}
