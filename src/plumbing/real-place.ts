// Where a path really leads, through every link, also where its last parts are not there yet.

import { realpathSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { systemCode } from './errors.ts';

/** Absolute for an absolute path. What cannot be looked at is answered as it was given. */
export function realPlace(path: string): string {
  try {
    return realpathSync(path);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT' || dirname(path) === path) return path;
    return join(realPlace(dirname(path)), basename(path));
  }
}
