// The folder of one run beside a running machine: images that keep what the guest overwrites meanwhile, and the socket of the export.
// Nobody but this user and the QEMU can enter it. Where its file system fills up, the backup ends before the guest notices.

import { lchownSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { ChainkeepError, systemCode } from '../plumbing/errors.ts';
import { createQcow2File } from '../qcow2/writer.ts';
import { isRunning, tagOf } from './run-tag.ts';

/** Where nobody names a folder: it survives a restart and is no file system in memory, as /tmp may be. */
export const DEFAULT_SCRATCH = '/var/tmp';

const VM_FILE = 'virtual-machine';
const LOOK_EVERY_MS = 500;
/** What a guest can write between two looks must still fit. */
const LEAST_FREE_BYTES = 2 ** 30;

export interface ScratchFolder {
  readonly path: string;
  /** A new image of `size` bytes in which nothing is. Answers its path. */
  createImage(name: string, size: number): Promise<string>;
  /** Calls `onFull` once when the room comes to its end. */
  watch(onFull: (error: ChainkeepError) => void): void;
  stopWatching(): void;
  remove(): void;
}

export interface FileOwner {
  readonly uid: number;
  readonly gid: number;
}

export interface ScratchRequest {
  readonly base: string;
  readonly tag: string;
  /** What the machine is known by on this host. */
  readonly vm: string;
  /** The user that its QEMU runs as. */
  readonly owner: FileOwner | undefined;
}

/** Throws INSUFFICIENT_STORAGE, CONFIG_INVALID. */
export async function makeScratchFolder({ base, tag, vm, owner }: ScratchRequest): Promise<ScratchFolder> {
  await refuseFull(base);
  const give = (path: string): void => {
    if (owner && owner.uid !== 0 && process.getuid?.() === 0) lchownSync(path, owner.uid, owner.gid);
  };
  const path = makeFolder(base, tag);
  writeFileSync(join(path, VM_FILE), vm, { mode: 0o600 });
  give(path);
  let timer: NodeJS.Timeout | undefined;
  let isOver = false;
  const stopWatching = (): void => {
    isOver = true;
    clearInterval(timer);
  };
  return {
    path,
    createImage: async (name, size) => {
      const image = join(path, name);
      await (await createQcow2File(image, { size })).finish();
      give(image);
      return image;
    },
    watch: (onFull) => {
      const look = async (): Promise<void> => {
        try {
          await refuseFull(path);
        } catch (error) {
          clearInterval(timer);
          if (!isOver) onFull(error instanceof ChainkeepError ? error : unusable(path, error));
          isOver = true;
        }
      };
      timer = setInterval(() => void look(), LOOK_EVERY_MS);
      void look();
    },
    stopWatching,
    remove: () => {
      stopWatching();
      rmSync(path, { recursive: true, force: true });
    },
  };
}

function makeFolder(base: string, tag: string): string {
  try {
    // mkdtemp gives it the mode 0700.
    return mkdtempSync(join(base, `chainkeep-${tag}-`));
  } catch (error) {
    throw unusable(base, error);
  }
}

async function refuseFull(path: string): Promise<void> {
  const { bavail, blocks, bsize } = await statfs(path).catch((error: unknown) => {
    throw unusable(path, error);
  });
  const least = Math.min(LEAST_FREE_BYTES, (blocks * bsize) / 10);
  if (bavail * bsize >= least) return;
  const message = `${path} has no room for what the guest overwrites during the backup: ${bavail * bsize} bytes are free`;
  throw new ChainkeepError('INSUFFICIENT_STORAGE', message, {
    advice: 'name another folder with --scratch; it needs room for all that the guest overwrites until the backup has ended',
    context: { path, available_bytes: bavail * bsize, required_bytes: Math.ceil(least) },
  });
}

function unusable(path: string, cause: unknown): ChainkeepError {
  return new ChainkeepError('CONFIG_INVALID', `the scratch folder ${path} cannot be used: ${systemCode(cause) ?? String(cause)}`, {
    advice: 'name another folder with --scratch',
    context: { path },
    cause,
  });
}

/** Folders that killed runs left behind for this machine; folders of others stay, for their QEMU may still use them. */
export function removeDeadFolders({ base, vm, owner }: Omit<ScratchRequest, 'tag'>): readonly string[] {
  const dead: string[] = [];
  for (const name of listFolder(base)) {
    const tag = name.startsWith('chainkeep-') ? tagOf(name) : undefined;
    if (tag === undefined || isRunning(tag) || !isOf(join(base, name), vm, owner)) continue;
    rmSync(join(base, name), { recursive: true, force: true });
    dead.push(tag);
  }
  return dead;
}

function listFolder(base: string): readonly string[] {
  try {
    return readdirSync(base);
  } catch (error) {
    throw unusable(base, error);
  }
}

/** The base may be a folder in which everybody makes folders. */
function isOf(folder: string, vm: string, owner: FileOwner | undefined): boolean {
  try {
    const { uid } = statSync(folder);
    if (uid !== process.getuid?.() && uid !== owner?.uid) return false;
    return readFileSync(join(folder, VM_FILE), 'utf8') === vm;
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'EACCES' || systemCode(error) === 'ENOTDIR') return false;
    throw error;
  }
}
