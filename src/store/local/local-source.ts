// A blob of a local store, open for reading. The open file is its identity: it reads the same also after the name was replaced or deleted.

import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { ByteSource } from '../../plumbing/byte-source.ts';
import { ChainkeepError, systemCode } from '../../plumbing/errors.ts';
import { storeError } from './local-errors.ts';
import { checkRoot, type LocalRoot, linkError } from './local-root.ts';

// O_NONBLOCK: a named pipe in the way must be refused below, not wait for a writer for ever.
const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

class LocalSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly fd: number;
  readonly #handle: FileHandle;
  readonly #root: LocalRoot;

  constructor(root: LocalRoot, name: string, size: number, handle: FileHandle) {
    this.#root = root;
    this.name = name;
    this.size = size;
    this.#handle = handle;
    this.fd = handle.fd;
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    const length = buffer.byteLength;
    const context = { offset, length, size: this.size };
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + length > this.size) {
      throw new ChainkeepError('STORE_FAILED', `read outside of ${this.name}: ${length} bytes at ${offset}, its size is ${this.size}`, {
        context,
      });
    }
    for (let done = 0; done < length; ) {
      const bytesRead = await this.#readSome(buffer, done, offset);
      if (bytesRead === 0) {
        throw new ChainkeepError(
          'BLOB_CHANGED',
          `${this.name} was cut while it was open: nothing at ${offset + done}, its size was ${this.size}`,
          { context },
        );
      }
      done += bytesRead;
    }
  }

  async #readSome(buffer: Uint8Array, done: number, offset: number): Promise<number> {
    try {
      return (await this.#handle.read(buffer, done, buffer.byteLength - done, offset + done)).bytesRead;
    } catch (error) {
      throw await storeError(error, {
        root: this.#root,
        action: 'read',
        name: this.name,
        context: { offset: offset + done, length: buffer.byteLength },
      });
    }
  }

  /** Waits for reads under way. Threads that use `fd` must have stopped: its number may be given to another file. */
  async close(): Promise<void> {
    await this.#handle.close();
  }
}

export async function openLocalSource(root: LocalRoot, name: string): Promise<ByteSource> {
  const path = `${root.path}/${name}`;
  try {
    const source = await openRegularFile(path, root, name);
    if (source) return source;
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ELOOP') throw linkError(path);
    if (code !== 'ENOENT' && code !== 'ENOTDIR') throw await storeError(error, { root, action: 'read', name });
  }
  throw await notFound(root, name);
}

async function openRegularFile(path: string, root: LocalRoot, name: string): Promise<ByteSource | undefined> {
  const handle = await open(path, READ_FLAGS);
  try {
    const stats = await handle.stat();
    if (stats.isFile()) return new LocalSource(root, name, stats.size, handle);
  } catch (error) {
    await handle.close();
    throw error;
  }
  await handle.close();
  return undefined;
}

/** Before "not there" is answered: is the store itself there? */
export async function notFound(root: LocalRoot, name: string): Promise<ChainkeepError> {
  await checkRoot(root);
  return new ChainkeepError('BLOB_NOT_FOUND', `there is no ${name} in ${root.path}`, { context: { place: root.path, name } });
}
