// A store that knows how much was written through it, while it is being written: also by threads with a descriptor.
// It must not change anything.

import type { BlobStore } from '../blob-store.ts';
import { aroundStore } from './around-store.ts';

export interface CountedStore {
  readonly store: BlobStore;
  /** Bytes of all blobs so far; what was given up again does not count. */
  written(): number;
}

export function countingWrites(inner: BlobStore): CountedStore {
  let finished = 0;
  const open = new Map<string, () => number>();
  /** Their counter knows of every append, too. */
  const direct = new Set<string>();
  const store = aroundStore(inner, {
    around: async ({ operation, name, bytes }, act) => {
      const result = await act();
      if (operation === 'abort') {
        open.delete(name);
        direct.delete(name);
      }
      if (operation === 'append' && !direct.has(name)) {
        const before = open.get(name)?.() ?? 0;
        open.set(name, () => before + bytes);
      }
      return result;
    },
    direct: (descriptor, name) => {
      direct.add(name);
      open.set(name, () => Number(Atomics.load(descriptor.next, 0)));
      return descriptor;
    },
    finished: (name, size) => {
      open.delete(name);
      direct.delete(name);
      finished += size;
    },
  });
  return { store, written: () => [...open.values()].reduce((sum, bytes) => sum + bytes(), finished) };
}
