// A folder and what is missing above it. Node's own recursive mkdir never returns below /proc, where the kernel answers ENOENT for ever.

import { closeSync, constants, fsyncSync, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { systemCode } from './errors.ts';

/**
 * Folders that are there already are left as they are; throws what mkdir(2) says of the first that cannot be made. Each one made is durable
 * in the folder above: what is synced inside of it is lost all the same when its own name vanishes with the power.
 */
export function makeFolder(path: string, mode: number): void {
  if (tryMake(path, mode)) return;
  makeFolder(dirname(path), mode);
  mkdirSync(path, { mode });
  syncFolder(dirname(path));
}

/** False when the folder above is missing. */
function tryMake(path: string, mode: number): boolean {
  try {
    mkdirSync(path, { mode });
    syncFolder(dirname(path));
    return true;
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return true;
    if (systemCode(error) === 'ENOENT' && path !== dirname(path)) return false;
    throw error;
  }
}

/** Makes the names in a folder durable. */
export function syncFolder(path: string): void {
  let descriptor: number;
  try {
    descriptor = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    // A folder of others where this user may make names and not read them: nothing can be synced through it, and the user cannot change that.
    if (systemCode(error) === 'EACCES') return;
    throw error;
  }
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
