// Gives a finished private file its final name: durable, in one step, and never over a file that is there.
// It must not write the file: the caller has, and may have left it unsynced.

import { constants } from 'node:fs';
import { link, open, rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { systemCode } from './errors.ts';

/** What file systems without hard links answer (FAT, some FUSE and network ones). */
const NO_HARD_LINKS: ReadonlySet<string | undefined> = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']);

/** Throws what link(2) says: EEXIST where the name is taken. */
export async function publishFile(temporary: string, final: string): Promise<void> {
  await syncFile(temporary);
  try {
    await link(temporary, final);
    await unlink(temporary);
  } catch (error) {
    if (!NO_HARD_LINKS.has(systemCode(error))) throw error;
    // The name is taken by an empty file of our own first: nobody else can have it, and the rename replaces only that.
    await (await open(final, 'wx', 0o600)).close();
    await rename(temporary, final);
  }
  await syncFolderOf(final);
}

export async function syncFile(path: string): Promise<void> {
  const file = await open(path, constants.O_RDONLY);
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

export async function syncFolderOf(path: string): Promise<void> {
  const folder = await open(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
