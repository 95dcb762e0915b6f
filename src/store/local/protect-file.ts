// How one file is marked as protected: no write bits in its mode, and where the system allows it the immutable attribute, as chattr +i sets it.
// It must not know dates: a mark holds until it is taken off. It must not fall back from the attribute to mode bits without anybody knowing.

import { closeSync, constants, openSync } from 'node:fs';
import { type FileHandle, lstat, open } from 'node:fs/promises';
import { ChainkeepError, systemCode } from '../../plumbing/errors.ts';
import { type ForeignFunction, loadNative, type Native } from '../../plumbing/native.ts';

export type Mark = 'attribute' | 'mode';

// linux/fs.h, on machines with 64 bits: _IOR('f', 1, long), _IOW('f', 2, long); what is passed is an int all the same.
const FS_IOC_GETFLAGS = 0x80086601;
const FS_IOC_SETFLAGS = 0x40086602;
const FS_IMMUTABLE_FL = 0x10;
/** O_TMPFILE | O_DIRECTORY of Linux: a file without a name, gone with its descriptor, also after a kill. */
const O_TMPFILE = 0o20200000;
const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const WRITE_BITS = 0o222;

/** Tries it on a file without a name: which mark can this process set in this folder? Loads the foreign functions: ask only where it matters. */
export function probeMark(folder: string): Mark {
  const native = process.platform === 'linux' ? loadNative() : undefined;
  if (!native) return 'mode';
  let fd: number;
  try {
    fd = openSync(folder, O_TMPFILE | constants.O_RDWR, 0o600);
  } catch {
    return 'mode'; // file systems that cannot make such a file (NFS, SMB) have no attribute either; a folder that is gone is found out elsewhere
  }
  try {
    return setImmutable(native, fd, true) && setImmutable(native, fd, false) ? 'attribute' : 'mode';
  } finally {
    closeSync(fd);
  }
}

/** Marks the file durably; nothing is done where the mark is there. ENOENT as the system says it; NOT_SUPPORTED where not even mode bits stay. */
export async function markFile(path: string, mark: Mark): Promise<void> {
  const handle = await open(path, READ_FLAGS);
  try {
    const native = mark === 'attribute' ? loadNative() : undefined;
    if (await isMarkedAs(handle, mark)) return;
    await handle.chmod(0o400); // first: an immutable file's mode cannot be changed
    if (((await handle.stat()).mode & WRITE_BITS) !== 0) throw modeIsFixed(path);
    if (native && !setImmutable(native, handle.fd, true)) throw attributeFailed(path, native.errno());
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Which marks are on the file; undefined for none. Also `attribute` of a file that this process could not mark itself. */
export async function findMark(path: string): Promise<Mark | undefined> {
  const handle = await open(path, READ_FLAGS);
  try {
    if (await isMarkedAs(handle, 'attribute')) return 'attribute';
    return (await isMarkedAs(handle, 'mode')) ? 'mode' : undefined;
  } finally {
    await handle.close();
  }
}

/**
 * Takes the marks off, durably. Throws REPOSITORY_READ_ONLY where the attribute was set by somebody with more rights. A file with write bits was not
 * marked by us: an attribute that somebody else has given it stays.
 */
export async function unmarkFile(path: string): Promise<void> {
  const handle = await open(path, READ_FLAGS);
  try {
    if (!(await isMarkedAs(handle, 'mode'))) return;
    if (await isMarkedAs(handle, 'attribute')) {
      const native = loadNative();
      if (!native || !setImmutable(native, handle.fd, false)) throw attributeStays(path);
    }
    await handle.chmod(0o600);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Before a file is replaced or removed: IMMUTABLE_RETENTION_ACTIVE when it is there and marked. Its date is not known here. */
export async function refuseMarked(path: string, name: string): Promise<void> {
  const mark = await markOrNone(path);
  if (mark === undefined) return;
  throw new ChainkeepError('IMMUTABLE_RETENTION_ACTIVE', `${name} is protected: neither deleted nor replaced`, {
    advice: 'what protects a backup, and until when, is shown by: chainkeep show BACKUP',
    context: { name, mark },
  });
}

/** Cheap for what is not protected: the attribute is asked for only where the mode says that there may be one. */
async function markOrNone(path: string): Promise<Mark | undefined> {
  try {
    const stats = await lstat(path);
    if (!stats.isFile() || (stats.mode & WRITE_BITS) !== 0) return undefined;
    return await findMark(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function isMarkedAs(handle: FileHandle, mark: Mark): Promise<boolean> {
  if (mark === 'mode') return ((await handle.stat()).mode & WRITE_BITS) === 0;
  const native = loadNative();
  const flags = native && readFlags(native, handle.fd);
  return flags !== undefined && (flags & FS_IMMUTABLE_FL) !== 0;
}

function readFlags(native: Native, fd: number): number | undefined {
  const flags = new Int32Array(1);
  return callIoctl(native, fd, FS_IOC_GETFLAGS, flags) ? flags[0] : undefined;
}

/** False where the file system has no attributes or the process no right to this one. */
function setImmutable(native: Native, fd: number, immutable: boolean): boolean {
  const flags = readFlags(native, fd);
  if (flags === undefined) return false;
  const wanted = immutable ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
  return callIoctl(native, fd, FS_IOC_SETFLAGS, new Int32Array([wanted]));
}

let ioctl: ForeignFunction | undefined;

function callIoctl(native: Native, fd: number, request: number, flags: Int32Array): boolean {
  ioctl ??= native.symbol('int ioctl(int, unsigned long, void *)');
  return ioctl?.(fd, request, flags) === 0;
}

function modeIsFixed(path: string): ChainkeepError {
  return new ChainkeepError('NOT_SUPPORTED', `the file system of ${path} keeps no mode bits: files cannot be protected there`, {
    advice: 'locks are still kept by Chainkeep itself; for more use another file system or mount options that let modes be changed',
    context: { path },
  });
}

function attributeFailed(path: string, errno: number): ChainkeepError {
  return new ChainkeepError('STORE_FAILED', `the immutable attribute of ${path} could not be set (errno ${errno})`, {
    advice: 'check the disk and the system log; is it the same file system as the rest of the repository?',
    context: { path, errno },
  });
}

function attributeStays(path: string): ChainkeepError {
  return new ChainkeepError('REPOSITORY_READ_ONLY', `${path} has the immutable attribute, and this user may not take it off`, {
    advice: 'run chainkeep as the user who protected it (root, or one with CAP_LINUX_IMMUTABLE)',
    context: { path },
  });
}
