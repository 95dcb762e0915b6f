// A folder and what is missing above it. Node's own recursive mkdir never returns below /proc, where the kernel answers ENOENT for ever.

import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { systemCode } from './errors.ts';

/** Folders that are there already are left as they are; throws what mkdir(2) says of the first that cannot be made. */
export function makeFolder(path: string, mode: number): void {
  if (tryMake(path, mode)) return;
  makeFolder(dirname(path), mode);
  mkdirSync(path, { mode });
}

/** False when the folder above is missing. */
function tryMake(path: string, mode: number): boolean {
  try {
    mkdirSync(path, { mode });
    return true;
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return true;
    if (systemCode(error) === 'ENOENT' && path !== dirname(path)) return false;
    throw error;
  }
}
