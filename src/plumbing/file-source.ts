// A file or block device as a byte source.
// It must not block on what is neither: pipes, sockets and terminals are refused.

import { close, constants, fstatSync, openSync, read, readSync, type Stats } from 'node:fs';
import type { ByteSource } from './byte-source.ts';
import { ChainkeepError, systemCode } from './errors.ts';

/**
 * Opens `path` for reading; its size is taken now and does not follow the file.
 * Throws SOURCE_NOT_FOUND, SOURCE_UNREADABLE (no permission, I/O error) or SOURCE_INVALID (a folder, pipe or socket).
 */
export async function openFileSource(path: string): Promise<ByteSource> {
  const fd = openDescriptor(path);
  try {
    return new FileSource(path, fd, measure(path, fd));
  } catch (error) {
    await closeDescriptor(fd);
    throw error;
  }
}

class FileSource implements ByteSource {
  readonly name: string;
  readonly fd: number;
  readonly size: number;
  #open = true;

  constructor(name: string, fd: number, size: number) {
    this.name = name;
    this.fd = fd;
    this.size = size;
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    let done = 0;
    while (done < buffer.length) {
      // After close the number may belong to another file: reading from it would be other data without an error.
      if (!this.#open) throw new ChainkeepError('INTERNAL', `${this.name} was read after it was closed`);
      const count = await this.#readSome(buffer.subarray(done), offset + done);
      if (count === 0) throw this.#tooShort(offset + done);
      done += count;
    }
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await closeDescriptor(this.fd);
  }

  #readSome(buffer: Uint8Array, offset: number): Promise<number> {
    return new Promise((resolve, reject) => {
      read(this.fd, buffer, 0, buffer.length, offset, (error, count) => {
        if (error) reject(unreadable(this.name, error, { offset, length: buffer.length }));
        else resolve(count);
      });
    });
  }

  #tooShort(offset: number): ChainkeepError {
    const message = `${this.name} ends at ${offset}, it had ${this.size} bytes when it was opened`;
    return new ChainkeepError('SOURCE_CHANGED', message, {
      advice: 'nothing else may change the file while it is read',
      context: { path: this.name, offset, size: this.size },
    });
  }
}

function openDescriptor(path: string): number {
  try {
    // Without NONBLOCK, opening a pipe waits for a writer, for ever.
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (NOT_THERE.has(systemCode(error))) {
      throw new ChainkeepError('SOURCE_NOT_FOUND', `${path} does not exist`, { advice: 'check the path', context: { path }, cause: error });
    }
    if (systemCode(error) === 'ENXIO') throw notADisk(path, 'a socket');
    throw unreadable(path, error, {});
  }
}

/** What the system says of an open file or device. Throws SOURCE_UNREADABLE. */
export function statDescriptor(path: string, fd: number): Stats {
  try {
    return fstatSync(fd);
  } catch (error) {
    throw unreadable(path, error, {});
  }
}

function measure(path: string, fd: number): number {
  const stat = statDescriptor(path, fd);
  if (stat.isFile()) return stat.size;
  if (stat.isBlockDevice()) return measureDevice(path, fd);
  throw notADisk(path, kindOf(stat));
}

function kindOf(stat: Stats): string {
  if (stat.isDirectory()) return 'a folder';
  if (stat.isFIFO()) return 'a pipe';
  return stat.isCharacterDevice() ? 'a character device' : 'something else';
}

/** `stat` gives 0 for a device; its end is where the first byte cannot be read. Needs no system call that Node lacks. */
function measureDevice(path: string, fd: number): number {
  const byte = new Uint8Array(1);
  const readable = (offset: number): boolean => {
    try {
      return readSync(fd, byte, 0, 1, offset) === 1;
    } catch (error) {
      throw unreadable(path, error, { offset });
    }
  };
  if (!readable(0)) return 0;
  let last = 0;
  let beyond = 1;
  while (readable(beyond)) {
    last = beyond;
    beyond *= 2;
  }
  while (beyond - last > 1) {
    const middle = Math.floor((last + beyond) / 2);
    if (readable(middle)) last = middle;
    else beyond = middle;
  }
  return beyond;
}

function notADisk(path: string, what: string): ChainkeepError {
  return new ChainkeepError('SOURCE_INVALID', `${path} is neither a file nor a block device but ${what}`, {
    advice: 'give the path of a disk image or of a block device',
    context: { path },
  });
}

/** A part of the path is missing, a file where a folder is needed, or longer than any name. */
const NOT_THERE: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTDIR', 'ENAMETOOLONG']);

const WORDS: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EIO: 'the disk reports an error',
  ELOOP: 'its links lead in a circle',
};

/** SOURCE_UNREADABLE with the words for a system error. */
export function unreadable(path: string, cause: unknown, context: { offset?: number; length?: number }): ChainkeepError {
  const why = systemCode(cause) ?? 'unknown error';
  const words = WORDS[why];
  const where = context.offset === undefined ? '' : ` at ${context.offset}`;
  const denied = why === 'EACCES' || why === 'EPERM';
  return new ChainkeepError('SOURCE_UNREADABLE', `${path} cannot be read${where}: ${words === undefined ? why : `${words} (${why})`}`, {
    advice: denied ? 'run as a user who may read it' : 'check the disk it lies on',
    context: { path, ...context },
    cause,
  });
}

function closeDescriptor(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    close(fd, (error) => (error ? reject(error) : resolve()));
  });
}
