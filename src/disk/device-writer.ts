// A block device as the target of a restore. Everything on it is overwritten, zeros too; there is no way back from a failure.

import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { ChainkeepError } from '../plumbing/errors.ts';
import { deviceSize } from './device-size.ts';
import type { DiskWriter } from './disk-writer.ts';
import { targetError } from './file-writer.ts';
import { writeAll } from './write-all.ts';

/** Throws TARGET_TOO_SMALL, or TARGET_INVALID where the device cannot be opened (O_EXCL: also when it is mounted). */
export async function openDeviceWriter(path: string, size: number): Promise<DiskWriter> {
  let handle: FileHandle;
  try {
    // On a block device O_EXCL without O_CREAT means: not while it is mounted or used by another driver.
    handle = await open(path, constants.O_RDWR | constants.O_EXCL);
  } catch (error) {
    throw new ChainkeepError(
      'TARGET_INVALID',
      `the device ${path} cannot be opened for writing: ${error instanceof Error ? error.message : String(error)}`,
      {
        advice: 'unmount it and stop what uses it; writing to devices usually needs root',
        context: { target: path },
        cause: error,
      },
    );
  }
  try {
    const available = await deviceSize(handle, path);
    if (available < size) {
      throw new ChainkeepError('TARGET_TOO_SMALL', `${path} has ${available} bytes, the disk has ${size}`, {
        advice: 'choose a device that is at least as large as the disk',
        context: { target: path, required_bytes: size, available_bytes: available },
      });
    }
  } catch (error) {
    await handle.close();
    throw error;
  }
  return new DeviceWriter(path, handle);
}

const ZEROS = new Uint8Array(1 << 20);

class DeviceWriter implements DiskWriter {
  readonly name: string;
  readonly fd: number;
  readonly startsZero = false;
  readonly #handle: FileHandle;
  #closed = false;

  constructor(path: string, handle: FileHandle) {
    this.name = path;
    this.fd = handle.fd;
    this.#handle = handle;
  }

  async write(buffer: Uint8Array, offset: number): Promise<void> {
    try {
      await writeAll(this.#handle, buffer, offset);
    } catch (error) {
      throw this.explain(error);
    }
  }

  async zero(offset: number, length: number): Promise<void> {
    for (let done = 0; done < length; done += ZEROS.length) {
      await this.write(ZEROS.subarray(0, Math.min(ZEROS.length, length - done)), offset + done);
    }
  }

  explain(error: unknown): unknown {
    const cause = targetError(this.name, error);
    return new ChainkeepError('TARGET_FAILED', `${cause.message}; ${this.name} is now unusable`, {
      advice: 'its former content is gone and the restore is incomplete: restore again',
      context: cause.context,
      cause,
    });
  }

  async finish(): Promise<void> {
    try {
      await this.#handle.sync();
      await this.#close();
    } catch (error) {
      throw this.explain(error);
    }
  }

  async abort(): Promise<void> {
    await this.#close();
  }

  async #close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#handle.close();
  }
}
