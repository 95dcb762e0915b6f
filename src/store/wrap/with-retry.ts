// A store that does again what failed for a reason that passes, where doing it twice is as doing it once.
// It must never repeat an append or a finish: what became of them is not known, and a second one could be a second blob, or the loser of a name
// that the first one has won. Who writes a blob learns of the failure, looks what is there, and decides.

import { openRetryBudget, type RetryOptions, type RetryPolicy, retry } from '../../plumbing/retry.ts';
import type { BlobInfo, BlobStore } from '../blob-store.ts';
import { aroundStore, type StoreOperation } from './around-store.ts';

/**
 * `put` has made nothing that anybody sees, `abort` may be called at any time, a protection is never shortened by setting it again. A sweep is not
 * here: its answer says what it removed, and a second one would not know what the first one did. Nor is a delete, which is looked after below.
 */
const REPEATABLE: readonly StoreOperation[] = [
  ...(['stat', 'open', 'read', 'put', 'abort', 'protect', 'protectionOf', 'release', 'capacity', 'now'] as const),
];

/** The budget of `options` is that of the place: one for all stores that are opened there. */
export function withRetry(inner: BlobStore, policy: RetryPolicy, options: RetryOptions = {}): BlobStore {
  const shared = { budget: openRetryBudget(), ...options };
  return aroundStore(inner, {
    around: ({ operation }, act) => (REPEATABLE.includes(operation) ? retry(act, policy, shared) : act()),
    list: (_prefix, list) => listOn(list, policy, shared),
    delete: (name) => deleteOnce(inner, name, policy, shared),
  });
}

/** Listings are sorted by name: after a failure the next one begins anew, and what was answered already is left out. */
async function* listOn(list: () => AsyncIterable<BlobInfo>, policy: RetryPolicy, options: RetryOptions): AsyncGenerator<BlobInfo> {
  let last: string | undefined;
  let current: AsyncIterator<BlobInfo> | undefined;
  try {
    while (true) {
      const next = await retry(
        async () => {
          try {
            current ??= list()[Symbol.asyncIterator]();
            return await nextBehind(current, last);
          } catch (error) {
            current = undefined; // an iterator that threw has ended
            throw error;
          }
        },
        policy,
        options,
      );
      if (next.done) return;
      last = next.value.name;
      yield next.value;
    }
  } finally {
    await current?.return?.();
  }
}

async function nextBehind(list: AsyncIterator<BlobInfo>, last: string | undefined): Promise<IteratorResult<BlobInfo>> {
  while (true) {
    const next = await list.next();
    if (next.done || last === undefined || next.value.name > last) return next;
  }
}

/**
 * The answer to a delete may be lost after it was done, and the name be taken anew by somebody else: a second delete would take away his blob. So it
 * is looked at before, and only what is still there as it was is deleted again.
 */
async function deleteOnce(inner: BlobStore, name: string, policy: RetryPolicy, options: RetryOptions): Promise<void> {
  const before = policy.attempts > 1 ? await retry(() => inner.stat(name), policy, options) : undefined;
  await retry(
    async (attempt) => {
      if (attempt > 1 && isAnother(before, await inner.stat(name))) return;
      await inner.delete(name);
    },
    policy,
    options,
  );
}

/** Nothing there is not another one: the delete may not be durable yet, and is done again. */
function isAnother(before: BlobInfo | undefined, now: BlobInfo | undefined): boolean {
  return now !== undefined && (before === undefined || now.size !== before.size || now.modifiedAt !== before.modifiedAt);
}
