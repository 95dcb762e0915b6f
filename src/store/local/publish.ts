// The one step that makes a finished temporary file a blob. The file's bytes must be durable before; the folder is synced by the caller after.
// There is no "look, then rename": between the two another process may take the name.

import { link, lstat, rename, unlink } from 'node:fs/promises';
import { ChainkeepError, systemCode } from '../../plumbing/errors.ts';
import { loadNative } from '../../plumbing/native.ts';

/** What file systems without hard links answer (FAT, some FUSE and network ones). */
const NO_HARD_LINKS: ReadonlySet<string | undefined> = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']);
const AT_FDCWD = -100;
const RENAME_NOREPLACE = 1;

/** Gives the temporary its final name, whoever has it now. */
export async function publishReplacing(temporary: string, final: string): Promise<void> {
  await rename(temporary, final);
}

/** Gives the temporary its final name if nobody has it, else BLOB_EXISTS; of several that try at once, one wins. */
export async function publishNew(temporary: string, final: string): Promise<void> {
  try {
    await link(temporary, final);
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EEXIST') {
      // A network file system may do it, lose the answer, ask again and be told EEXIST: then the name is already this very file.
      if (!(await isSameFile(temporary, final))) throw existsError(final, error);
    } else if (NO_HARD_LINKS.has(code)) {
      return renameNew(temporary, final, error);
    } else {
      throw error;
    }
  }
  await unlink(temporary).catch((error: unknown) => {
    if (systemCode(error) !== 'ENOENT') throw error; // a sweep may have taken the second name
  });
}

async function renameNew(temporary: string, final: string, linkError: unknown): Promise<void> {
  const renameat2 = loadNative()?.symbol('int renameat2(int, const char *, int, const char *, unsigned int)');
  if (renameat2?.(AT_FDCWD, temporary, AT_FDCWD, final, RENAME_NOREPLACE) === 0) return;
  if (await exists(final)) throw existsError(final, linkError);
  throw new ChainkeepError('STORE_FAILED', `the file system of ${final} can neither link nor rename without replacing`, {
    advice: 'a repository needs one of the two to commit safely: use another file system',
    cause: linkError,
    context: { path: final },
  });
}

async function isSameFile(one: string, other: string): Promise<boolean> {
  const [a, b] = await Promise.all([lstat(one, { bigint: true }), lstat(other, { bigint: true })]);
  return a.dev === b.dev && a.ino === b.ino;
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}

function existsError(final: string, cause: unknown): ChainkeepError {
  return new ChainkeepError('BLOB_EXISTS', `${final} exists and may not be replaced`, { cause, context: { path: final } });
}
