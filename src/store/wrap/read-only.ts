// A store that nothing is written to: for repositories that belong to somebody else, or are kept as they are.
// It must refuse before the store hears of it.

import { ChainkeepError } from '../../plumbing/errors.ts';
import { checkBlobName } from '../blob-name.ts';
import type { BlobStore } from '../blob-store.ts';

/** Default: REPOSITORY_READ_ONLY. `refusal` says more where more is known. */
export function readOnly(inner: BlobStore, refusal: (name: string) => ChainkeepError = (name) => refusalOf(inner, name)): BlobStore {
  const refuse = async (name: string): Promise<never> => {
    checkBlobName(name);
    throw refusal(name);
  };
  return {
    place: inner.place,
    get capabilities() {
      return inner.capabilities;
    },
    list: (prefix) => inner.list(prefix),
    stat: (name) => inner.stat(name),
    open: (name) => inner.open(name),
    put: refuse,
    delete: refuse,
    protect: refuse,
    protectionOf: (name) => inner.protectionOf(name),
    release: refuse,
    sweep: async (prefix, isDead) => {
      let dead: string | undefined;
      // To look at what is left is reading.
      const removed = await inner.sweep(prefix, (leftover) => {
        if (isDead(leftover)) dead ??= leftover.name;
        return false;
      });
      if (dead !== undefined) throw refusal(dead);
      return removed;
    },
    capacity: () => inner.capacity(),
    now: () => inner.now(),
    close: () => inner.close(),
  };
}

function refusalOf({ place }: BlobStore, name: string): ChainkeepError {
  return new ChainkeepError('REPOSITORY_READ_ONLY', `nothing is written to ${place}: it is open for reading alone`, {
    advice: 'use another repository for what writes, deletes or protects',
    context: { place, name },
  });
}
