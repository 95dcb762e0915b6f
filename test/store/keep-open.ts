// One store for many tests: opening a mounted share starts a process, which costs more than most tests do. It is emptied instead of opened anew.

import type { BlobStore } from '../../src/store/blob-store.ts';

/** The same store with a `close` that does nothing. */
export function keepOpen(store: BlobStore): BlobStore {
  return {
    place: store.place,
    capabilities: store.capabilities,
    list: (prefix) => store.list(prefix),
    stat: (name) => store.stat(name),
    open: (name) => store.open(name),
    put: (name, options) => store.put(name, options),
    delete: (name) => store.delete(name),
    protect: (name, protection) => store.protect(name, protection),
    protectionOf: (name) => store.protectionOf(name),
    release: (name) => store.release(name),
    sweep: (prefix, isDead) => store.sweep(prefix, isDead),
    capacity: () => store.capacity(),
    now: () => store.now(),
    close: async () => undefined,
  };
}
