// Where a path really leads, through every link, also where its last parts are not there yet.

import { realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { LATE, within } from './abandoned-work.ts';
import { systemCode } from './errors.ts';

/** Milliseconds: paths of several repositories are looked at for every one that is added, and a storage that hangs must not stop that. */
const TIME_LIMIT_MS = 2000;

/** Absolute for an absolute path. What cannot be looked at, or does not answer in time, is answered as it was given. */
export async function realPlace(path: string): Promise<string> {
  const place = await within(resolvePlace(path), TIME_LIMIT_MS);
  return place === LATE ? path : place;
}

async function resolvePlace(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT' || dirname(path) === path) return path;
    return join(await resolvePlace(dirname(path)), basename(path));
  }
}
