// The one step that makes a finished temporary file a blob. The file's bytes must be durable before; the folder is synced by the caller after.
// There is no "look, then rename": between the two another process may take the name.

import { link, lstat, open, rename, unlink } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../plumbing/clock.ts';
import { ChainkeepError, systemCode } from '../../plumbing/errors.ts';
import { loadNative } from '../../plumbing/native.ts';
import type { LocalRoot } from './local-root.ts';
import { onceFree } from './once-free.ts';

/** What file systems without hard links answer (FAT, some FUSE and network ones). */
const NO_HARD_LINKS: ReadonlySet<string | undefined> = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']);
const AT_FDCWD = -100;
const RENAME_NOREPLACE = 1;
const LOOK_EVERY_MS = 40;
/** Ends like a temporary, so that a sweep finds one that was left. */
const CLAIM = '.tmp-claimed00000';
const CLAIM_LIMIT_MS = 10_000;

/** Gives the temporary its final name, whoever has it now. */
export async function publishReplacing(root: LocalRoot, temporary: string, final: string): Promise<void> {
  await onceFree(root, final, () => rename(temporary, final));
}

/**
 * Gives the temporary its final name if nobody has it, else BLOB_EXISTS; of several that try at once, one wins. Where the file
 * system itself cannot decide that, a claim of ours may if the root has `claims`; else such a file system is refused.
 */
export async function publishNew(root: LocalRoot, temporary: string, final: string): Promise<void> {
  try {
    await link(temporary, final);
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EEXIST') {
      // A network file system may do it, lose the answer, ask again and be told EEXIST: then the name is already this very file.
      if (!(await isSameFile(temporary, final))) throw existsError(final, error);
    } else if (NO_HARD_LINKS.has(code)) {
      return renameNew(temporary, final, { byClaim: root.claims, cause: error });
    } else {
      throw error;
    }
  }
  await onceFree(root, temporary, () => unlink(temporary)).catch((error: unknown) => {
    if (systemCode(error) !== 'ENOENT') throw error; // a sweep may have taken the second name
  });
}

interface NoLink {
  readonly byClaim: boolean;
  readonly cause: unknown;
}

async function renameNew(temporary: string, final: string, { byClaim, cause }: NoLink): Promise<void> {
  const renameat2 = loadNative()?.symbol('int renameat2(int, const char *, int, const char *, unsigned int)');
  if (renameat2?.(AT_FDCWD, temporary, AT_FDCWD, final, RENAME_NOREPLACE) === 0) return;
  if (await exists(final)) throw existsError(final, cause);
  if (byClaim) return renameClaimed(temporary, final, cause);
  throw new ChainkeepError('STORE_FAILED', `the file system of ${final} can neither link nor rename without replacing`, {
    advice: 'a repository needs one of the two to commit safely: use another file system',
    cause,
    context: { path: final },
  });
}

/**
 * All who create a blob this way ask the claim first, and who holds it looks and renames alone. Somebody who creates it another way, from a machine
 * that can link, is not kept off: such a store says that it cannot create only. Killed in between, it leaves the claim, and the name cannot be
 * created before a sweep has removed that.
 */
async function renameClaimed(temporary: string, final: string, cause: unknown): Promise<void> {
  const claim = final + CLAIM;
  for (const end = systemClock.monotonic() + CLAIM_LIMIT_MS; !(await tryClaim(claim)); await sleep(LOOK_EVERY_MS)) {
    if (await exists(final)) throw existsError(final, cause);
    if (systemClock.monotonic() > end) throw claimedError(final, cause);
  }
  try {
    if (await exists(final)) throw existsError(final, cause);
    await rename(temporary, final);
  } finally {
    await unlink(claim);
  }
}

async function tryClaim(claim: string): Promise<boolean> {
  try {
    await (await open(claim, 'wx', 0o600)).close();
    return true;
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false;
    throw error;
  }
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

function claimedError(final: string, cause: unknown): ChainkeepError {
  return new ChainkeepError('STORE_FAILED', `${final} is being created by another process, and has been for ${CLAIM_LIMIT_MS / 1000} s`, {
    advice: `when no other process is at work there, remove ${final}${CLAIM}`,
    cause,
    context: { path: final },
  });
}
