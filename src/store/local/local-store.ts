// A folder as a blob store: names are paths below it, images are ordinary files that other tools can open.
// It follows no link below its root, lists no temporaries, and never answers "not there" while the root itself is gone.

import { lstat, unlink } from 'node:fs/promises';
import type { ByteSink } from '../../plumbing/byte-sink.ts';
import type { ByteSource } from '../../plumbing/byte-source.ts';
import { isChainkeepError, systemCode } from '../../plumbing/errors.ts';
import { checkBlobName, checkBlobPrefix, folderOf, isTemporaryName } from '../blob-name.ts';
import type { BlobInfo, BlobProtection, BlobStore, Leftover, PutOptions, StoreCapabilities, StoreCapacity } from '../blob-store.ts';
import { noRoomError, readCapacity, storeError } from './local-errors.ts';
import {
  checkRoot,
  hasFolder,
  type LocalRoot,
  linkError,
  type OpenLocalOptions,
  openRoot,
  removeEmptyFolders,
  syncFolder,
} from './local-root.ts';
import { openLocalSink } from './local-sink.ts';
import { notFound, openLocalSource } from './local-source.ts';
import { isInUse, onceFree } from './once-free.ts';
import { findMark, type Mark, markFile, probeMark, refuseMarked, unmarkFile } from './protect-file.ts';
import { type WalkedFile, walkFiles } from './walk-files.ts';

const CAPABILITIES: Omit<StoreCapabilities, 'retentionMark'> = {
  createOnly: true,
  atomicReplace: true,
  retention: 'advisory',
  maxBlobSize: Number.MAX_SAFE_INTEGER, // the file system's own limit is smaller and answered as BLOB_TOO_LARGE
  clock: false,
  capacity: true,
};

class LocalStore implements BlobStore {
  readonly place: string;
  readonly capabilities: StoreCapabilities;
  readonly #root: LocalRoot;

  constructor(root: LocalRoot) {
    this.place = root.path;
    this.#root = root;
    let mark: Mark | undefined;
    this.capabilities = {
      ...CAPABILITIES,
      get retentionMark() {
        mark ??= probeMark(root.path); // only where somebody asks: repositories without locks have no use for it
        return mark;
      },
    };
  }

  async *list(prefix: string): AsyncGenerator<BlobInfo> {
    for await (const file of this.#walk(prefix)) {
      if (!isTemporaryName(file.name)) yield file;
    }
  }

  async *#walk(prefix: string): AsyncGenerator<WalkedFile> {
    checkBlobPrefix(prefix);
    try {
      yield* walkFiles(this.#root, prefix);
    } catch (error) {
      throw await storeError(error, { root: this.#root, action: 'read', name: prefix });
    }
  }

  async stat(name: string): Promise<BlobInfo | undefined> {
    checkBlobName(name);
    const path = this.#path(name);
    try {
      if (await hasFolder(this.#root, folderOf(name))) {
        const stats = await lstat(path);
        if (stats.isSymbolicLink()) throw linkError(path);
        if (stats.isFile()) return { name, size: stats.size, modifiedAt: Math.floor(stats.mtimeMs) };
      }
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw await storeError(error, { root: this.#root, action: 'read', name });
    }
    await checkRoot(this.#root);
    return undefined;
  }

  async open(name: string): Promise<ByteSource> {
    checkBlobName(name);
    try {
      if (!(await hasFolder(this.#root, folderOf(name)))) throw await notFound(this.#root, name);
    } catch (error) {
      throw await storeError(error, { root: this.#root, action: 'read', name });
    }
    return openLocalSource(this.#root, name);
  }

  async put(name: string, options: PutOptions = {}): Promise<ByteSink> {
    checkBlobName(name);
    const expected = options.expectedSize ?? 0;
    if (expected > 0) await this.#expectRoom(name, expected);
    return openLocalSink(this.#root, name, options);
  }

  /** Shares that tell of no bytes at all (some FUSE file systems) are believed nothing. */
  async #expectRoom(name: string, expected: number): Promise<void> {
    const { totalBytes, availableBytes } = await readCapacity(this.#root);
    if (totalBytes > 0 && expected > availableBytes) throw await noRoomError(this.#root, name, expected);
  }

  async delete(name: string): Promise<void> {
    checkBlobName(name);
    try {
      await checkRoot(this.#root);
      if (!(await hasFolder(this.#root, folderOf(name)))) return;
      await refuseMarked(this.#path(name), name);
      await this.#remove([name], folderOf(name));
    } catch (error) {
      throw await storeError(error, { root: this.#root, action: 'write', name });
    }
  }

  async protect(name: string, { until, hold }: BlobProtection): Promise<void> {
    checkBlobName(name);
    const mark = this.capabilities.retentionMark ?? 'mode';
    // A hold that is lifted leaves the mark: whether a date still needs it the repository knows, and then says `release`.
    await this.#withFile(name, 'write', async (path) => (until === undefined && !hold ? undefined : markFile(path, mark)));
  }

  async protectionOf(name: string): Promise<BlobProtection | undefined> {
    checkBlobName(name);
    const mark = await this.#withFile(name, 'read', findMark);
    // Where the attribute can be set, mode bits alone are what is left when somebody took it off.
    return mark === undefined || (mark === 'mode' && this.capabilities.retentionMark === 'attribute') ? undefined : {};
  }

  async release(name: string): Promise<void> {
    checkBlobName(name);
    try {
      await this.#withFile(name, 'write', unmarkFile);
    } catch (error) {
      if (!isChainkeepError(error, 'BLOB_NOT_FOUND')) throw error; // as for a delete, which comes next
    }
  }

  /** BLOB_NOT_FOUND where there is none. */
  async #withFile<T>(name: string, action: 'read' | 'write', use: (path: string) => Promise<T>): Promise<T> {
    try {
      if ((await this.stat(name)) === undefined) throw await notFound(this.#root, name);
      return await use(this.#path(name));
    } catch (error) {
      if (systemCode(error) === 'ENOENT') throw await notFound(this.#root, name);
      throw await storeError(error, { root: this.#root, action, name });
    }
  }

  async sweep(prefix: string, isDead: (leftover: Leftover) => boolean): Promise<readonly Leftover[]> {
    const dead: Leftover[] = [];
    for await (const file of this.#walk(prefix)) {
      if (isTemporaryName(file.name) && isDead(file)) dead.push(file);
    }
    const removed: Leftover[] = [];
    for (const [folder, leftovers] of Map.groupBy(dead, ({ name }) => folderOf(name))) {
      try {
        for (const leftover of leftovers) if (await this.#unlinkUnused(leftover.name)) removed.push(leftover);
        await this.#remove([], folder);
      } catch (error) {
        throw await storeError(error, { root: this.#root, action: 'write', name: folder });
      }
    }
    return removed;
  }

  /** False where a file server refuses because somebody has it open: then its writer is not dead. */
  async #unlinkUnused(name: string): Promise<boolean> {
    try {
      await unlink(this.#path(name));
      return true;
    } catch (error) {
      if (isInUse(this.#root, error)) return false;
      if (systemCode(error) === 'ENOENT') return true;
      throw error;
    }
  }

  async capacity(): Promise<StoreCapacity> {
    await checkRoot(this.#root);
    return readCapacity(this.#root);
  }

  async now(): Promise<number | undefined> {
    return undefined; // its times come from this machine's clock
  }

  async close(): Promise<void> {
    // Nothing is held open between calls; sources and sinks are closed by who opened them.
  }

  /** Unlinks files of one folder, makes that durable, then gives back folders that became empty. */
  async #remove(names: readonly string[], folder: string): Promise<void> {
    for (const name of names) {
      try {
        await onceFree(this.#root, this.#path(name), () => unlink(this.#path(name)));
      } catch (error) {
        if (systemCode(error) !== 'ENOENT') throw error;
      }
    }
    // Also when nothing was there: a crash may have come between an earlier unlink and its sync.
    try {
      await syncFolder(folder === '' ? this.#root.path : this.#path(folder));
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error; // another delete found it empty after ours; it had synced it before
    }
    await removeEmptyFolders(this.#root, folder);
  }

  #path(name: string): string {
    return `${this.#root.path}/${name}`;
  }
}

/**
 * Opens the folder `path` (absolute) as a store. With `create` it is made when missing, mode 0700, parents too.
 * Throws REPOSITORY_OFFLINE when it is not there, CONFIG_INVALID when the path is not absolute.
 */
export async function openLocalStore(path: string, options: OpenLocalOptions): Promise<BlobStore> {
  return new LocalStore(await openRoot(path, options));
}
