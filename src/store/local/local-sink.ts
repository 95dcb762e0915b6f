// A blob of a local store being written: a temporary file beside its final place, published by `finish`.
// It never makes a blob visible whose bytes are not durable, and never tries again after a failed write or fsync.

import { constants } from 'node:fs';
import { type FileHandle, lstat, open, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { ByteSink, DirectAppend } from '../../plumbing/byte-sink.ts';
import { assert, ChainkeepError, systemCode } from '../../plumbing/errors.ts';
import { folderOf, temporaryName } from '../blob-name.ts';
import type { PutOptions } from '../blob-store.ts';
import { SinkLife } from '../sink-life.ts';
import { storeError } from './local-errors.ts';
import { type LocalRoot, makeFolders, removeEmptyFolders, syncFolder } from './local-root.ts';
import { onceFree } from './once-free.ts';
import { refuseMarked } from './protect-file.ts';
import { publishNew, publishReplacing } from './publish.ts';

/** Buffers that one writev(2) takes. */
const MAX_BUFFERS = 1024;
/** How often deletes may remove a folder (it was empty) between making it and making a file in it. */
const MAKE_ATTEMPTS = 100;

interface Place {
  readonly root: LocalRoot;
  readonly name: string;
  readonly temporary: string;
  readonly final: string;
}

class LocalSink implements ByteSink {
  readonly name: string;
  readonly direct: DirectAppend;
  readonly #place: Place;
  readonly #handle: FileHandle;
  readonly #life: SinkLife;
  readonly #ifAbsent: boolean;
  readonly #expectedSize: number;
  /** Inode of the file, known once it is about to be published as a new name: an abort takes back that name, and only then. */
  #published: bigint | undefined;

  constructor(place: Place, handle: FileHandle, options: PutOptions) {
    this.name = place.name;
    this.#place = place;
    this.#handle = handle;
    const headLength = options.headLength ?? 0;
    this.#life = new SinkLife(place.name, headLength, (error) => this.#meet(error));
    this.#ifAbsent = options.ifAbsent ?? false;
    this.#expectedSize = options.expectedSize ?? 0;
    const next = new BigInt64Array(new SharedArrayBuffer(8));
    next[0] = BigInt(headLength);
    this.direct = { fd: handle.fd, next, fail: async (error) => this.#life.fail(await this.#meet(error)) };
  }

  async append(buffers: readonly Uint8Array[]): Promise<number> {
    this.#life.checkOpen();
    let length = 0;
    for (const buffer of buffers) length += buffer.byteLength;
    const offset = Number(Atomics.add(this.direct.next, 0, BigInt(length)));
    await this.#life.append(() => this.#writeAll(buffers, offset));
    return offset;
  }

  async finish(head: Uint8Array): Promise<{ size: number }> {
    return { size: await this.#life.finish(head, () => this.#finish(head)) };
  }

  async #finish(head: Uint8Array): Promise<number> {
    const { temporary, final } = this.#place;
    // The head goes in last: a file without it is not an image, whatever a crash leaves of the rest.
    await this.#writeAll([head], 0);
    const size = await this.#checkSize();
    // Bytes before name: once the name exists everybody may read it, also after a power loss.
    await this.#handle.sync();
    // Some network file systems report a failed write only here.
    await this.#handle.close();
    if (this.#ifAbsent) {
      await publishNew(this.#place.root, temporary, final);
    } else {
      await refuseMarked(final, this.name);
      await publishReplacing(this.#place.root, temporary, final);
    }
    // Name last: until the folder is synced a power loss may take the name back, so only now may the caller say "it is there".
    await syncFolder(dirname(final));
    return size;
  }

  /** What was claimed must be what was written: a thread that claimed and did not write would leave a hole of zeros. */
  async #checkSize(): Promise<number> {
    const claimed = Number(Atomics.load(this.direct.next, 0));
    const stats = await this.#handle.stat({ bigint: true });
    if (Number(stats.size) !== claimed) {
      throw new ChainkeepError('STORE_FAILED', `${this.name} is ${stats.size} bytes long, ${claimed} were claimed by its writers`, {
        advice: 'nothing was committed; run it again, and report this with the job log',
        context: { name: this.name, size: Number(stats.size), claimed },
      });
    }
    if (this.#ifAbsent) this.#published = stats.ino;
    return claimed;
  }

  async abort(): Promise<void> {
    if (!(await this.#life.abort())) return;
    const { root, name, temporary, final } = this.#place;
    try {
      await this.#handle.close(); // waits for appends under way; a second close is nothing
      // A create that failed behind its link (the folder's fsync, say) was answered with an error: nobody may find it later.
      if (this.#published !== undefined && (await inodeOf(final)) === this.#published) {
        await removeFile(root, final);
        await syncFolder(dirname(final));
      }
      await removeFile(root, temporary);
      await removeEmptyFolders(root, folderOf(name));
    } catch (error) {
      throw await storeError(error, { root, action: 'write', name });
    }
  }

  /** Nothing is tried again: the kernel forgets a failed write-back once it was reported. */
  async #meet(error: unknown): Promise<unknown> {
    const requiredBytes = Math.max(this.#expectedSize, Number(Atomics.load(this.direct.next, 0)));
    const { root, name } = this.#place;
    return storeError(error, { root, action: 'write', name, requiredBytes });
  }

  async #writeAll(buffers: readonly Uint8Array[], offset: number): Promise<void> {
    let rest = buffers.filter((buffer) => buffer.byteLength > 0);
    let position = offset;
    while (rest.length > 0) {
      const { bytesWritten } = await this.#handle.writev(rest.slice(0, MAX_BUFFERS), position);
      assert(bytesWritten > 0, `a write to ${this.name} wrote nothing`);
      position += bytesWritten;
      rest = dropBytes(rest, bytesWritten);
    }
  }
}

/** The buffers without their first `count` bytes: a write may be short. */
function dropBytes(buffers: readonly Uint8Array[], count: number): Uint8Array[] {
  let skip = count;
  let first = 0;
  for (let buffer = buffers[first]; buffer && skip >= buffer.byteLength; buffer = buffers[first]) {
    skip -= buffer.byteLength;
    first += 1;
  }
  return buffers.slice(first).map((buffer, index) => (index === 0 ? buffer.subarray(skip) : buffer));
}

async function inodeOf(path: string): Promise<bigint | undefined> {
  try {
    return (await lstat(path, { bigint: true })).ino;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function removeFile(root: LocalRoot, path: string): Promise<void> {
  try {
    await onceFree(root, path, () => unlink(path));
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
  }
}

export async function openLocalSink(root: LocalRoot, name: string, options: PutOptions): Promise<ByteSink> {
  const temporary = `${root.path}/${temporaryName(name)}`;
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  for (let attempt = 1; ; attempt += 1) {
    try {
      await makeFolders(root, folderOf(name));
      const handle = await open(temporary, flags, 0o600);
      return new LocalSink({ root, name, temporary, final: `${root.path}/${name}` }, handle, options);
    } catch (error) {
      // A delete elsewhere removed the folder between the two because it was empty: make it again.
      if (systemCode(error) !== 'ENOENT' || attempt === MAKE_ATTEMPTS) throw await storeError(error, { root, action: 'write', name });
    }
  }
}
