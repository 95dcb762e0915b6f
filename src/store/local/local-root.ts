// The folder that a local store lives in: is it still the same one, and the folders below it, made durably and never through links.

import { constants } from 'node:fs';
import { lstat, mkdir, open, rmdir, stat } from 'node:fs/promises';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { ChainkeepError, systemCode } from '../../plumbing/errors.ts';
import type { OpenStoreOptions } from '../store-kind.ts';

export interface LocalRoot {
  readonly path: string;
  /** Device and inode at opening: an unmounted disk leaves another folder at the same path. */
  readonly identity: string;
  /** Folders whose entry in their parent this process has made durable. */
  readonly durableFolders: Set<string>;
  /** Where the file system cannot create only, claims decide among the writers that use them (publish.ts). */
  readonly claims: boolean;
  /** Its file server denies access to what somebody has open, in the same words as to what is forbidden. */
  readonly deniesOpen: boolean;
}

export interface OpenLocalOptions extends OpenStoreOptions {
  readonly claims?: boolean;
  readonly deniesOpen?: boolean;
}

/** The root itself may be reached through a link (the administrator's choice); nothing below it may. */
export async function openRoot(path: string, options: OpenLocalOptions): Promise<LocalRoot> {
  if (!isAbsolute(path))
    throw new ChainkeepError('CONFIG_INVALID', `the path of a local store must be absolute: ${path}`, { context: { path } });
  const normal = resolve(path);
  if (options.create) await makeRoot(normal, options.onMade ?? (() => undefined));
  const { claims = false, deniesOpen = false } = options;
  return { path: normal, identity: await readIdentity(normal), durableFolders: new Set(), claims, deniesOpen };
}

/** REPOSITORY_OFFLINE unless the root is there and the one that was opened. */
export async function checkRoot(root: LocalRoot): Promise<void> {
  if ((await readIdentity(root.path)) === root.identity) return;
  throw offlineError(root.path, 'is another folder than the one that was opened');
}

async function readIdentity(path: string): Promise<string> {
  try {
    const stats = await stat(path, { bigint: true });
    if (stats.isDirectory()) return `${stats.dev}:${stats.ino}`;
  } catch (error) {
    throw offlineError(path, systemCode(error) === 'ENOENT' ? 'is not there' : 'cannot be reached', error);
  }
  throw offlineError(path, 'is not a folder');
}

function offlineError(path: string, what: string, cause?: unknown): ChainkeepError {
  return new ChainkeepError('REPOSITORY_OFFLINE', `the repository folder ${path} ${what}`, {
    advice: 'is its disk unmounted? mount it again, or correct the path',
    retryable: true,
    cause,
    context: { path, system_code: systemCode(cause) },
  });
}

/** Makes the root and what is missing above it, each entry durable before the next. */
async function makeRoot(path: string, onMade: (undo: () => Promise<void>) => void, parentIsThere = false): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EEXIST') return;
    // Below /proc and the like nothing can be made, and the kernel calls that ENOENT too: ask once more, not for ever.
    if (code !== 'ENOENT' || parentIsThere || path === dirname(path)) throw makeError(path, error);
    await makeRoot(dirname(path), onMade);
    return makeRoot(path, onMade, true);
  }
  onMade(() => unmakeFolder(path));
  await syncFolder(dirname(path));
}

/** Somebody else may have put something into it meanwhile, or taken it away. */
async function unmakeFolder(path: string): Promise<void> {
  try {
    await rmdir(path);
  } catch (error) {
    if (!['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(systemCode(error) ?? '')) throw error;
  }
}

function makeError(path: string, cause: unknown): ChainkeepError {
  const code = systemCode(cause);
  const denied = code === 'EACCES' || code === 'EPERM' || code === 'EROFS';
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new ChainkeepError(denied ? 'REPOSITORY_READ_ONLY' : 'STORE_FAILED', `cannot make the folder ${path}: ${reason}`, {
    advice: denied ? 'choose a folder this user may write to, or make it first' : 'check the path',
    cause,
    context: { path, system_code: code },
  });
}

/**
 * Are all folders of `folder` ('' is the root) there? A link among them throws STORE_FAILED. A look, not a lock: it keeps a planted link from being
 * followed; whoever can swap a folder for a link between two calls can already write here.
 */
export async function hasFolder(root: LocalRoot, folder: string): Promise<boolean> {
  let path = root.path;
  for (const segment of folder === '' ? [] : folder.split('/')) {
    path = join(path, segment);
    try {
      if (!(await isFolder(path))) return false;
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return false;
      throw error;
    }
  }
  return true;
}

async function isFolder(path: string): Promise<boolean> {
  const stats = await lstat(path);
  if (stats.isSymbolicLink()) throw linkError(path);
  return stats.isDirectory();
}

export function linkError(path: string): ChainkeepError {
  return new ChainkeepError('STORE_FAILED', `${path} is a symbolic link; links inside a repository are not followed`, {
    advice: 'remove the link; to spread a repository over disks use a bind mount',
    context: { path },
  });
}

/**
 * Makes the folders of `folder` with mode 0700. Each folder's entry is synced in its parent before it is used, also when another process made it a
 * moment ago and may not have synced it yet: a blob in a folder that vanishes with the power is a lost blob. ENOENT when a delete took a folder away
 * again because it was empty; the caller starts over.
 */
export async function makeFolders(root: LocalRoot, folder: string): Promise<void> {
  await checkRoot(root); // never make folders in the mount point of a disk that went away
  let parent = root.path;
  for (const segment of folder === '' ? [] : folder.split('/')) {
    const path = join(parent, segment);
    const made = await makeFolder(path);
    if (!(await isFolder(path))) {
      throw new ChainkeepError('STORE_FAILED', `${path} is in the way: not a folder`, { context: { path } });
    }
    if (made || !root.durableFolders.has(path)) {
      await syncFolder(parent);
      root.durableFolders.add(path);
    }
    parent = path;
  }
}

async function makeFolder(path: string): Promise<boolean> {
  try {
    await mkdir(path, { mode: 0o700 });
    return true;
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false;
    throw error;
  }
}

/** Removes `folder` and those above it as far as they are empty, never the root. Not synced: an empty folder that comes back is no harm. */
export async function removeEmptyFolders(root: LocalRoot, folder: string): Promise<void> {
  for (let path = join(root.path, folder); path !== root.path; path = dirname(path)) {
    try {
      await rmdir(path);
    } catch (error) {
      const code = systemCode(error);
      if (code === 'ENOTEMPTY' || code === 'EEXIST') return;
      if (code !== 'ENOENT') throw error;
    }
    root.durableFolders.delete(path);
  }
}

/** Makes a folder's entries durable: what was linked, renamed, removed or made in it stays so after a power loss. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
