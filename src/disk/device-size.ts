// The size of a block device: `stat` says 0.

import type { FileHandle } from 'node:fs/promises';
import { readFile } from 'node:fs/promises';
import { ChainkeepError } from '../plumbing/errors.ts';

const SECTOR = 512; // the unit of /sys/dev/block/*/size, whatever the device's own sectors are

/** Bytes. Throws SOURCE_INVALID where the system does not say. */
export async function deviceSize(handle: FileHandle, path: string): Promise<number> {
  const { rdev } = await handle.stat();
  // The encoding of dev_t on Linux: 12 bits of major, 20 bits of minor, interleaved.
  const major = (rdev >>> 8) & 0xfff;
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
  try {
    const sectors = Number((await readFile(`/sys/dev/block/${major}:${minor}/size`, 'utf8')).trim());
    if (Number.isSafeInteger(sectors * SECTOR)) return sectors * SECTOR;
  } catch (error) {
    throw unknownSize(path, error);
  }
  throw unknownSize(path, undefined);
}

function unknownSize(path: string, cause: unknown): ChainkeepError {
  return new ChainkeepError('SOURCE_INVALID', `the size of the device ${path} is not known to the system`, {
    advice: 'is /sys mounted? block devices need it here',
    context: { path },
    cause,
  });
}
