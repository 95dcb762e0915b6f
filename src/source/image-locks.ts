// Does a running VM have this image open for writing? QEMU says so with a lock on byte 101 of the file; the kernel lists all locks.

import { readFileSync, statSync } from 'node:fs';
import { systemCode } from '../plumbing/errors.ts';

// QEMU's block/file-posix.c: the permission WRITE is held as a lock on byte 100 + 1.
const WRITE_PERMISSION_BYTE = 101;

/** A few words on the lock, or undefined where there is none or the system does not list locks. */
export function findWriter(path: string): string | undefined {
  let locks: string;
  try {
    locks = readFileSync('/proc/locks', 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'EACCES') return undefined; // not Linux, or hidden: nobody can say
    throw error;
  }
  const { ino, isFile } = inode(path);
  if (!isFile) return undefined;
  const held = locks.split('\n').find((line) => isWriteLock(line, ino));
  return held === undefined ? undefined : 'it holds a lock on the image';
}

function inode(path: string): { readonly ino: number; readonly isFile: boolean } {
  try {
    const stat = statSync(path);
    return { ino: stat.ino, isFile: stat.isFile() };
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'EACCES' || systemCode(error) === 'ENOTDIR') return { ino: -1, isFile: false };
    throw error; // whoever opens the path reports what is wrong with it
  }
}

/** `1: OFDLCK ADVISORY READ -1 08:01:131 101 101` */
function isWriteLock(line: string, ino: number): boolean {
  const fields = line.trim().split(/\s+/);
  const kind = fields.findIndex((field) => field === 'OFDLCK' || field === 'POSIX');
  if (kind < 0) return false;
  const [place = '', first = '', last = ''] = fields.slice(kind + 4);
  if (Number(place.split(':')[2]) !== ino) return false;
  const end = last === 'EOF' ? Number.POSITIVE_INFINITY : Number(last);
  return Number(first) <= WRITE_PERMISSION_BYTE && end >= WRITE_PERMISSION_BYTE;
}
