// A new file as the target of a restore: written under a temporary name beside its place, and published whole or not at all.

import { constants, fstatSync, statfsSync } from 'node:fs';
import { type FileHandle, link, open, rename, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { randomToken } from '../plumbing/clock.ts';
import { ChainkeepError, systemCode } from '../plumbing/errors.ts';
import type { DiskWriter } from './disk-writer.ts';
import { writeAll } from './write-all.ts';

export interface FileWriterOptions {
  /** Bytes; the file is made of this size at once, all hole. 0 for a file that grows as it is written. */
  readonly size: number;
  /** Replace a file that is there at the end; else it is an error, also when it appears meanwhile. */
  readonly replace: boolean;
  /** Hears the temporary name before the file exists, so that somebody can remove it after a crash. */
  readonly onPartial?: (path: string) => Promise<void>;
}

/** Throws TARGET_INVALID where the file cannot be made. */
export async function createFileWriter(path: string, options: FileWriterOptions): Promise<DiskWriter> {
  const partial = join(dirname(path), `.${basename(path).slice(0, 60)}.chainkeep-${randomToken(8)}`);
  await options.onPartial?.(partial);
  try {
    const handle = await open(partial, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
    const writer = new FileWriter(path, partial, handle, options);
    try {
      await handle.truncate(options.size);
    } catch (error) {
      await writer.abort();
      throw error;
    }
    return writer;
  } catch (error) {
    throw targetError(path, error);
  }
}

class FileWriter implements DiskWriter {
  readonly name: string;
  readonly fd: number;
  readonly startsZero = true;
  readonly #partial: string;
  readonly #handle: FileHandle;
  readonly #size: number;
  readonly #replace: boolean;
  #published = false;
  #ended = false;

  constructor(path: string, partial: string, handle: FileHandle, { size, replace }: FileWriterOptions) {
    this.name = path;
    this.fd = handle.fd;
    this.#partial = partial;
    this.#handle = handle;
    this.#size = size;
    this.#replace = replace;
  }

  async write(buffer: Uint8Array, offset: number): Promise<void> {
    try {
      await writeAll(this.#handle, buffer, offset);
    } catch (error) {
      throw this.explain(error, offset + buffer.length);
    }
  }

  /** The file began as one hole, and every range is written once. */
  async zero(): Promise<void> {}

  explain(error: unknown, end = 0): unknown {
    if (!NO_ROOM.has(systemCode(error))) return targetError(this.name, error);
    const { bavail, bsize } = statfsSync(dirname(this.name));
    const { blocks, size } = fstatSync(this.fd);
    // A file that grows as it is written has only the size of what did fit.
    const wanted = this.#size > 0 ? 'the disk has' : 'the image needs at least';
    return noRoomError(this.name, { wanted, required: Math.max(size, this.#size, end), available: bavail * bsize + blocks * BLOCK }, error);
  }

  async finish(): Promise<void> {
    try {
      // Bytes before name: once the file has its name, a power loss may not take its content.
      if (this.#replace) await this.#takeOwner();
      await this.#handle.sync();
      await this.#publish();
      this.#published = true;
      await syncFolder(dirname(this.name));
      await this.#handle.close();
      this.#ended = true;
    } catch (error) {
      throw this.explain(error);
    }
  }

  /** Who could use the file before can use it after: a VM whose disk is restored over it, for one. */
  async #takeOwner(): Promise<void> {
    try {
      const { mode, uid, gid } = await stat(this.name);
      await this.#handle.chmod(mode & 0o777);
      if (uid !== process.getuid?.() || gid !== process.getgid?.()) await this.#handle.chown(uid, gid);
    } catch (error) {
      // Nothing was there to replace; or the owner may not be given away, and then the file stays that of the user who restores it.
      if (systemCode(error) !== 'ENOENT' && systemCode(error) !== 'EPERM') throw error;
    }
  }

  async #publish(): Promise<void> {
    if (this.#replace) return rename(this.#partial, this.name);
    try {
      // Unlike rename, link refuses to take a name that somebody else took meanwhile.
      await link(this.#partial, this.name);
      await unlink(this.#partial);
    } catch (error) {
      const code = systemCode(error);
      if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'EOPNOTSUPP') throw error;
      // A file system without hard links: take the name first, exclusively, then rename over what is ours.
      await (await open(this.name, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL)).close();
      await rename(this.#partial, this.name);
    }
  }

  async abort(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await this.#handle.close();
    await this.#remove(this.#partial);
    // The name was there and may not be durable: what was answered with an error, nobody may find later.
    if (this.#published && !this.#replace) await this.#remove(this.name);
  }

  async #remove(path: string): Promise<void> {
    try {
      await unlink(path);
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw targetError(this.name, error);
    }
  }
}

/** Removes what a run that was killed left under its temporary name; anything else is not touched. */
export async function removePartialFile(path: string): Promise<void> {
  if (!/^\..*\.chainkeep-[0-9a-z]{8}$/s.test(basename(path))) return;
  try {
    await unlink(path);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT' && systemCode(error) !== 'ENOTDIR') throw targetError(path, error);
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Node has no name for EDQUOT (over quota), only its number. */
const NO_ROOM: ReadonlySet<string | undefined> = new Set(['ENOSPC', 'Unknown system error -122']);

const BLOCK = 512; // the unit of st_blocks

interface Room {
  readonly wanted: string;
  /** Bytes: of the whole disk, which needs fewer where it has holes, or of an image as far as it is known. */
  readonly required: number;
  readonly available: number;
}

function noRoomError(path: string, room: Room | undefined, cause: unknown): ChainkeepError {
  const numbers = room === undefined ? '' : `: ${room.wanted} ${room.required} bytes, ${room.available} are available`;
  return new ChainkeepError('INSUFFICIENT_STORAGE', `there is not enough room to write ${path}${numbers}`, {
    advice: 'free some room, or choose another target; nothing was left behind',
    context: { target: path, required_bytes: room?.required, available_bytes: room?.available },
    cause,
  });
}

const ADVICE: Readonly<Record<string, string>> = {
  ENOENT: 'make the folder first, or choose another target',
  ENOTDIR: 'choose a target in a folder that exists',
  EACCES: 'choose a place you may write to',
  EROFS: 'choose a place that is not read-only',
  EISDIR: 'name a file in that folder',
  ENAMETOOLONG: 'choose a shorter name',
  EFBIG: 'its file system does not take files of this size: choose another one',
};

/** The error of a target that cannot be made or written, by what the system said. */
export function targetError(path: string, error: unknown): ChainkeepError {
  if (error instanceof ChainkeepError) return error;
  const code = systemCode(error);
  const context = { target: path, system_code: code };
  if (NO_ROOM.has(code)) return noRoomError(path, undefined, error);
  if (code === 'EEXIST') {
    return new ChainkeepError('TARGET_EXISTS', `${path} exists already`, {
      advice: 'choose another name, or replace it with --force',
      context,
      cause: error,
    });
  }
  const message = error instanceof Error ? error.message : String(error);
  return code !== undefined && ADVICE[code] !== undefined
    ? new ChainkeepError('TARGET_INVALID', `${path} cannot be written: ${message}`, { advice: ADVICE[code], context, cause: error })
    : new ChainkeepError('TARGET_FAILED', `writing ${path} failed: ${message}`, {
        advice: 'check the disk the target lies on',
        context,
        cause: error,
      });
}
