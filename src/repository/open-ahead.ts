// Blobs that will surely be opened, opened before it is known what is in them: on a store far away their first bytes are on the way meanwhile.
// It must not decide anything: a blob that turns out not to be needed is closed, and one that cannot be opened is asked for again.

import type { ByteSource } from '../plumbing/byte-source.ts';
import type { BlobStore } from '../store/blob-store.ts';

export interface AheadStore {
  /** The store, whose `open` gives what was begun. Each is given once. */
  readonly store: BlobStore;
  begin(names: readonly string[]): void;
  /** Closes what nobody has taken. The store itself stays open. */
  close(): Promise<void>;
}

export function openAhead(inner: BlobStore): AheadStore {
  const begun = new Map<string, Promise<ByteSource | undefined>>();
  const take = async (name: string): Promise<ByteSource> => {
    const source = begun.get(name);
    begun.delete(name);
    return (await source) ?? inner.open(name);
  };
  const store: BlobStore = {
    place: inner.place,
    get capabilities() {
      return inner.capabilities;
    },
    list: (prefix) => inner.list(prefix),
    stat: (name) => inner.stat(name),
    open: take,
    put: (name, options) => inner.put(name, options),
    delete: (name) => inner.delete(name),
    protect: (name, protection) => inner.protect(name, protection),
    protectionOf: (name) => inner.protectionOf(name),
    release: (name) => inner.release(name),
    sweep: (prefix, isDead) => inner.sweep(prefix, isDead),
    capacity: () => inner.capacity(),
    now: () => inner.now(),
    close: () => inner.close(),
  };
  return {
    store,
    begin: (names) => {
      // Where every open is quick, nothing is gained.
      if (!inner.capabilities.costlyReads) return;
      for (const name of names)
        if (!begun.has(name))
          begun.set(
            name,
            inner.open(name).catch(() => undefined),
          );
    },
    close: async () => {
      const left = await Promise.all(begun.values());
      begun.clear();
      await Promise.all(left.map((source) => source?.close()));
    },
  };
}
