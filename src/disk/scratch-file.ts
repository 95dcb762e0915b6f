// A file without a name for what is thrown away: the system frees it when the process ends, however that happens.
// It counts what is kept in it against a limit, and can have room for that limit reserved.

import { closeSync, constants, ftruncateSync, openSync, statfsSync, unlinkSync } from 'node:fs';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { ByteSource } from '../plumbing/byte-source.ts';
import { randomToken } from '../plumbing/clock.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import { punchHole, reserveRoom } from '../plumbing/fallocate.ts';
import { unreadable } from '../plumbing/file-source.ts';
import { makeFolder } from '../plumbing/make-folder.ts';
import { targetError } from './file-writer.ts';
import { writeAll } from './write-all.ts';

export interface ScratchRoom {
  /** Made where it is missing. */
  readonly folder: string;
  /** Bytes that may be kept at a time. */
  readonly most: number;
  /** Take the room now, so that nobody else can; else what is free at the moment of a write counts. */
  readonly reserve: boolean;
}

/** Room is given free for the file so many bytes ahead of what is written. */
const RELEASE_AHEAD = 64 * 1024 ** 2;

const MODE = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/**
 * Bytes at their own offsets, up to `size`; what was never written is a hole. Throws INSUFFICIENT_STORAGE, with both numbers, where the room that is to
 * be reserved is not there, and what `targetError` makes of a file that cannot be.
 */
export async function openScratchFile(size: number, room: ScratchRoom): Promise<ScratchFile> {
  const { folder, most } = room;
  try {
    makeFolder(folder, 0o700);
    const path = nameIn(folder);
    const handle = await open(path, MODE, 0o600);
    const file = new ScratchFile(folder, handle, { size, most });
    try {
      await unlink(path);
      if (room.reserve) file.hold();
      await handle.truncate(size);
      return file;
    } catch (error) {
      await file.close();
      throw error;
    }
  } catch (error) {
    throw targetError(folder, error);
  }
}

export class ScratchFile implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly fd: number;
  readonly #folder: string;
  readonly #handle: FileHandle;
  readonly #most: number;
  /** A second file that only takes the room that is not used yet, and shrinks as this one grows. */
  #held: number | undefined;
  #released = 0;
  #kept = 0;

  constructor(folder: string, handle: FileHandle, { size, most }: { readonly size: number; readonly most: number }) {
    this.name = `the scratch file in ${folder}`;
    this.size = size;
    this.fd = handle.fd;
    this.#folder = folder;
    this.#handle = handle;
    this.#most = most;
  }

  /** Takes the room now, where the file system can do that. Throws INSUFFICIENT_STORAGE, with both numbers. */
  hold(): void {
    this.#held = holdRoom(this.#folder, this.#most);
  }

  /** Bytes that are kept. */
  get kept(): number {
    return this.#kept;
  }

  /** Is room for that known? To be called before so many bytes are written where nothing is kept yet. Throws INSUFFICIENT_STORAGE. */
  keep(bytes: number): void {
    if (this.#kept + bytes > this.#most) {
      throw new ChainkeepError('INSUFFICIENT_STORAGE', `what is written needs more than the ${this.#most} bytes that it may take`, {
        advice: 'allow more with --scratch-size',
        context: { required_bytes: this.#kept + bytes, available_bytes: this.#most },
      });
    }
    this.#kept += bytes;
    if (this.#held === undefined || this.#kept <= this.#released) return;
    this.#released = Math.min(this.#most, this.#kept + RELEASE_AHEAD);
    ftruncateSync(this.#held, this.#most - this.#released);
  }

  /** These bytes are not needed any more. */
  drop(offset: number, length: number): void {
    this.forget(length);
    // Where a hole cannot be made the room is not given back, and that is all: nobody reads these bytes.
    punchHole(this.fd, offset, length);
  }

  /** So many bytes were not written after all. */
  forget(bytes: number): void {
    this.#kept -= bytes;
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    try {
      await writeAll(this.#handle, bytes, offset);
    } catch (error) {
      throw targetError(this.name, error);
    }
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    for (let done = 0; done < buffer.length; ) {
      const { bytesRead } = await this.#handle.read(buffer, done, buffer.length - done, offset + done).catch((error: unknown) => {
        throw unreadable(this.name, error, { offset: offset + done, length: buffer.length - done });
      });
      if (bytesRead === 0) throw new ChainkeepError('INTERNAL', `${this.name} ends at ${offset + done}, it has ${this.size} bytes`);
      done += bytesRead;
    }
  }

  /** What the disk below could not take is heard of here, and may be read as something else otherwise. */
  async sync(): Promise<void> {
    try {
      await this.#handle.datasync();
    } catch (error) {
      throw targetError(this.#folder, error);
    }
  }

  async close(): Promise<void> {
    if (this.#held !== undefined) closeSync(this.#held);
    await this.#handle.close();
  }
}

/** Of what is free this part is left to others, whose files lie beside: the catalog, for one. */
const LEFT_FREE = 0.1;

/** What may be kept where nobody said how much, and nothing is reserved. */
export function mostWithoutReserving(folder: string): number {
  try {
    makeFolder(folder, 0o700);
    const { bavail, bsize } = statfsSync(folder);
    return Math.floor(bavail * bsize * (1 - LEFT_FREE));
  } catch (error) {
    throw targetError(folder, error);
  }
}

function nameIn(folder: string): string {
  return join(folder, `.scratch-${randomToken(8)}`);
}

/** A descriptor that holds so much room until it is made shorter or closed; undefined where this file system cannot reserve any. */
function holdRoom(folder: string, bytes: number): number | undefined {
  const { bavail, bsize } = statfsSync(folder);
  if (bytes > bavail * bsize) throw noRoom(folder, bytes, bavail * bsize);
  const path = nameIn(folder);
  const fd = openSync(path, MODE, 0o600);
  unlinkSync(path);
  const answer = reserveRoom(fd, bytes);
  if (answer === 'done') return fd;
  closeSync(fd);
  if (answer === 'no room') throw noRoom(folder, bytes, bavail * bsize);
  return undefined;
}

function noRoom(folder: string, required: number, available: number): ChainkeepError {
  return new ChainkeepError(
    'INSUFFICIENT_STORAGE',
    `up to ${required} bytes may have to be kept in ${folder}, ${available} are free there`,
    {
      advice: 'choose another folder with --scratch, or allow less with --scratch-size',
      context: { folder, required_bytes: required, available_bytes: available },
    },
  );
}
