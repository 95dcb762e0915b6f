// Foreign functions through koffi: system calls Node does not offer, and the zstd that is linked into Node itself.
// Everything here has a slower way beside it: where koffi or a symbol is missing, `loadNative` answers undefined.

import { createRequire } from 'node:module';

export type ForeignFunction = (...args: readonly unknown[]) => unknown;

export interface Native {
  /** lseek(2) with SEEK_DATA (3) or SEEK_HOLE (4); -1 when there is none behind `offset` or the file system cannot say. */
  lseek(fd: number, offset: number, whence: number): number;
  /** A function of the process itself (libc, or a library linked into Node), or undefined when it is not exported. */
  symbol(prototype: string): ForeignFunction | undefined;
  /** The errno of the last foreign call that failed. */
  errno(): number;
}

let loaded: Native | undefined | null = null;

/** The foreign functions, loaded at first use; undefined where this platform has none. */
export function loadNative(): Native | undefined {
  if (loaded === null) loaded = openNative();
  return loaded;
}

function openNative(): Native | undefined {
  if (process.env.CHAINKEEP_NATIVE === 'off') return undefined;
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
    const self = koffi.load(null);
    const symbol = (prototype: string): ForeignFunction | undefined => {
      try {
        return self.func(prototype) as ForeignFunction;
      } catch {
        return undefined; // not exported by this build of Node: the caller has another way
      }
    };
    const lseek = symbol('int64 lseek(int, int64, int)');
    if (!lseek) return undefined;
    return { lseek: (fd, offset, whence) => Number(lseek(fd, offset, whence)), symbol, errno: () => koffi.errno() };
  } catch {
    return undefined; // koffi has no binary for this platform: every caller has another way
  }
}
