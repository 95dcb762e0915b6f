// Goes through the files of a local store, sorted by name, one folder at a time.

import type { Dirent, Stats } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { systemCode } from '../../plumbing/errors.ts';
import { folderOf, isForeignFolder } from '../blob-name.ts';
import { checkRoot, hasFolder, type LocalRoot, linkError } from './local-root.ts';

/** Files that are asked for their size at the same time. */
const STAT_BATCH = 64;

export interface WalkedFile {
  readonly name: string;
  readonly size: number;
  readonly modifiedAt: number;
}

/** Every regular file whose name begins with `prefix`, temporaries and foreign names too. A link on the way throws: what lies behind it would be missed. */
export async function* walkFiles(root: LocalRoot, prefix: string): AsyncGenerator<WalkedFile> {
  await checkRoot(root); // an unmounted disk must not look like an empty repository
  const folder = folderOf(prefix);
  if (await hasFolder(root, folder)) yield* walkFolder(root, folder === '' ? '' : `${folder}/`, prefix);
  await checkRoot(root); // nor like one that ends in the middle
}

interface Entry {
  /** Ends in a slash for a folder: so folders and files sort as full names do (`a-b` < `a/b` < `a0`). */
  readonly name: string;
  readonly isFolder: boolean;
}

async function* walkFolder(root: LocalRoot, base: string, prefix: string): AsyncGenerator<WalkedFile> {
  const entries = await readEntries(root, base, prefix);
  for (let start = 0; start < entries.length; start += STAT_BATCH) {
    const batch = entries.slice(start, start + STAT_BATCH);
    const stats = await Promise.all(batch.map((entry) => (entry.isFolder ? undefined : readStats(`${root.path}/${entry.name}`))));
    for (const [index, entry] of batch.entries()) {
      const file = stats[index];
      if (entry.isFolder) yield* walkFolder(root, entry.name, prefix);
      else if (file?.isFile()) yield { name: entry.name, size: file.size, modifiedAt: Math.floor(file.mtimeMs) };
    }
  }
}

async function readEntries(root: LocalRoot, base: string, prefix: string): Promise<readonly Entry[]> {
  let found: Dirent[];
  try {
    found = await readdir(`${root.path}/${base}`, { withFileTypes: true });
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return []; // removed since it was listed, because it was empty
    throw error;
  }
  const entries: Entry[] = [];
  for (const entry of found) {
    const name = entry.isDirectory() ? `${base}${entry.name}/` : base + entry.name;
    if (!name.startsWith(prefix) || isForeignFolder(entry.name)) continue;
    if (entry.isSymbolicLink()) throw linkError(`${root.path}/${name}`);
    if (entry.isDirectory() || entry.isFile()) entries.push({ name, isFolder: entry.isDirectory() });
  }
  return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
}

async function readStats(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined; // deleted since the folder was read
    throw error;
  }
}
