// A store that is used no faster and no more at once than its limiter allows. Without a limit it is as fast as the store inside: descriptors pass.
// It must not let what is small wait behind what is large: a marker is read, a lease is kept, a backup is committed at once.

import type { DirectAppend } from '../../plumbing/byte-sink.ts';
import type { BlobInfo, BlobStore } from '../blob-store.ts';
import { aroundStore } from './around-store.ts';
import type { StoreLimiter } from './store-limiter.ts';

/** Bytes up to which a read or a write is counted and does not wait. */
const SMALL = 64 * 1024;

/** `signal`: of what the store is used for; once it fires nothing waits any more, so that it can end. */
export function withLimits(inner: BlobStore, limiter: StoreLimiter, signal?: AbortSignal): BlobStore {
  const { upload, download, turns } = limiter;
  return aroundStore(inner, {
    around: async ({ operation, bytes }, act) => {
      const bucket = operation === 'append' ? upload : download;
      if (bytes > SMALL) await bucket.take(bytes, signal);
      else if (bytes > 0) bucket.note(bytes);
      return turns.run(act);
    },
    list: (_prefix, list) => takeTurns(list, limiter),
    direct: (direct) => (isFree(limiter, upload.rate) ? paced(direct, limiter, signal) : undefined),
    readable: ({ fd, pace }) => {
      if (fd === undefined || !isFree(limiter, download.rate)) return {};
      return { fd, pace: (bytes) => (download.rate === undefined ? pace?.(bytes) : download.take(bytes, signal)) };
    },
  });
}

function isFree({ turns }: StoreLimiter, rate: number | undefined): boolean {
  return rate === undefined && turns.most === undefined;
}

/** A limit that is set later, when the threads have the descriptor already, is kept by giving them work more slowly. */
function paced(direct: DirectAppend, { upload }: StoreLimiter, signal: AbortSignal | undefined): DirectAppend {
  let counted = Number(Atomics.load(direct.next, 0));
  return {
    fd: direct.fd,
    next: direct.next,
    fail: (error) => direct.fail(error),
    pace: () => {
      const reached = Number(Atomics.load(direct.next, 0));
      const bytes = reached - counted;
      counted = reached;
      return upload.rate === undefined || bytes === 0 ? direct.pace?.() : upload.take(bytes, signal);
    },
  };
}

/** A turn for each step of a listing, none while the caller works on what it got: it may use the store meanwhile. */
async function* takeTurns(list: () => AsyncIterable<BlobInfo>, { turns }: StoreLimiter): AsyncGenerator<BlobInfo> {
  const blobs = list()[Symbol.asyncIterator]();
  try {
    for (let next = await turns.run(() => blobs.next()); !next.done; next = await turns.run(() => blobs.next())) yield next.value;
  } finally {
    await blobs.return?.();
  }
}
