// What a blob may be called, the same rule for every store, so that a repository can move from any store to any other.
// A name is never repaired: what does not fit is refused before any part of it becomes a path or a key.

import { randomToken } from '../plumbing/clock.ts';
import { ChainkeepError } from '../plumbing/errors.ts';

/** Characters of a segment. File systems stop at 255; a temporary's ending must fit behind it. */
const MAX_SEGMENT = 200;
/** Characters of a whole name: the limit of S3 keys. */
const MAX_NAME = 1024;
/** Folders that file systems and storage boxes put there; never ours, never listed. */
const FOREIGN_FOLDERS: ReadonlySet<string> = new Set(['lost+found', '.snapshot', '@eaDir']);
/** Names that a Windows server answers with a device instead of a file, with any extension. */
const DEVICE = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i;
const TEMPORARY = /\.tmp-[0-9a-z]{12}$/;

export function isForeignFolder(segment: string): boolean {
  return FOREIGN_FOLDERS.has(segment);
}

/** Is this a file that a writer has not finished? Such names are no blobs. */
export function isTemporaryName(name: string): boolean {
  return TEMPORARY.test(name);
}

/** Is a key of an object store a blob? "Folders" that consoles make (a slash at the end), and what storage boxes keep for themselves, are none. */
export function isBlobKey(key: string): boolean {
  return isOwnKey(key) && !isTemporaryName(key);
}

/** A temporary on an object store, where we make none: of a folder that was copied there from a disk. */
export function isTemporaryKey(key: string): boolean {
  return isOwnKey(key) && isTemporaryName(key);
}

function isOwnKey(key: string): boolean {
  return !key.endsWith('/') && !key.split('/').some(isForeignFolder);
}

/** Where a blob is written to before it exists; in the same folder, so that a link or a rename can publish it. */
export function temporaryName(name: string): string {
  return `${name}.tmp-${randomToken(12)}`;
}

function isSegment(segment: string): boolean {
  // No dot at the end: that excludes `.` and `..`, and Windows servers would drop it and so make two names one.
  return (
    /^[A-Za-z0-9._-]*[A-Za-z0-9_-]$/.test(segment) && segment.length <= MAX_SEGMENT && !isForeignFolder(segment) && !DEVICE.test(segment)
  );
}

/** Throws BLOB_NAME_INVALID unless `name` is segments of `[A-Za-z0-9._-]` joined by `/`. */
export function checkBlobName(name: string): void {
  if (name.length <= MAX_NAME && name.split('/').every(isSegment) && !isTemporaryName(name)) return;
  throw nameError('blob name', name);
}

/** Throws BLOB_NAME_INVALID unless a blob's name could begin with `prefix`. */
export function checkBlobPrefix(prefix: string): void {
  const folder = folderOf(prefix);
  const rest = folder === '' ? prefix : prefix.slice(folder.length + 1);
  if (prefix.length <= MAX_NAME && (folder === '' || folder.split('/').every(isSegment)) && /^[A-Za-z0-9._-]*$/.test(rest)) return;
  throw nameError('prefix', prefix);
}

/** All before the last slash; '' where there is none. */
export function folderOf(name: string): string {
  return name.slice(0, Math.max(0, name.lastIndexOf('/')));
}

function nameError(what: string, name: string): ChainkeepError {
  const shown = JSON.stringify(name.length > 100 ? `${name.slice(0, 100)}…` : name);
  return new ChainkeepError('BLOB_NAME_INVALID', `${what} ${shown} is refused`, {
    advice: 'names are segments of A-Z a-z 0-9 . _ - joined by /; nothing is read or written under any other name',
    context: { name: name.slice(0, MAX_NAME) },
  });
}
