// Does a running VM have this image open for writing? QEMU says so with a lock on byte 101 of the file; the kernel lists all locks.

import { closeSync, constants, openSync, readFileSync } from 'node:fs';
import { systemCode } from '../plumbing/errors.ts';
import { statDescriptor } from '../plumbing/file-source.ts';

// QEMU's block/file-posix.c: the permission WRITE is held as a lock on byte 100 + 1.
const WRITE_PERMISSION_BYTE = 101;

// Linux's O_PATH, which Node does not name: a descriptor to ask about, for which nothing is opened.
const O_PATH = 0o10000000;

/** A few words on the lock, or undefined where there is none or the system does not list locks. */
export function findWriter(path: string): string | undefined {
  const locks = readProc('/proc/locks');
  const file = locks === undefined ? undefined : identify(path);
  if (locks === undefined || file === undefined) return undefined;
  return locks.split('\n').some((line) => isWriteLock(line, file)) ? 'it holds a lock on the image' : undefined;
}

interface FileIdentity {
  readonly inode: number;
  /** Of the file system, as /proc/locks writes it: `08:01`. Undefined where it is not known; `st_dev` is not always the same. */
  readonly device: string | undefined;
}

/** Undefined for what is no file and no block device, and for what cannot be looked at: whoever opens it says so. */
function identify(path: string): FileIdentity | undefined {
  let fd: number;
  try {
    fd = openSync(path, O_PATH | constants.O_RDONLY);
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'EACCES' || systemCode(error) === 'ENOTDIR') return undefined;
    throw error;
  }
  try {
    const stat = statDescriptor(path, fd);
    return stat.isFile() || stat.isBlockDevice() ? { inode: stat.ino, device: deviceOf(fd) } : undefined;
  } finally {
    closeSync(fd);
  }
}

/** The device of the mount that the descriptor came through: `36 35 98:0 /mnt1 /mnt2 …`, proc(5). */
function deviceOf(fd: number): string | undefined {
  const mount = /^mnt_id:\s*(\d+)$/m.exec(readProc(`/proc/self/fdinfo/${fd}`) ?? '')?.[1];
  const line = readProc('/proc/self/mountinfo')
    ?.split('\n')
    .find((candidate) => candidate.startsWith(`${mount} `));
  const numbers = line?.split(' ')[2]?.split(':');
  return numbers?.map((number) => Number(number).toString(16).padStart(2, '0')).join(':');
}

function readProc(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'EACCES') return undefined; // not Linux, or hidden: nobody can say
    throw error;
  }
}

/** `1: OFDLCK ADVISORY READ -1 08:01:131 101 101` */
function isWriteLock(line: string, { inode, device }: FileIdentity): boolean {
  const fields = line.trim().split(/\s+/);
  const kind = fields.findIndex((field) => field === 'OFDLCK' || field === 'POSIX');
  if (kind < 0) return false;
  const [place = '', first = '', last = ''] = fields.slice(kind + 4);
  const [major, minor, number] = place.split(':');
  if (Number(number) !== inode || (device !== undefined && `${major}:${minor}` !== device)) return false;
  const end = last === 'EOF' ? Number.POSITIVE_INFINITY : Number(last);
  return Number(first) <= WRITE_PERMISSION_BYTE && end >= WRITE_PERMISSION_BYTE;
}
