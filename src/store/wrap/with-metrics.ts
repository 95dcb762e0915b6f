// A store that counts: calls, failures, bytes and time of each operation, as plain data that a page of metrics is made from.
// It must not cost anything that is felt, and takes no descriptor away: what threads write is counted when the blob is finished, what they read
// through a descriptor is not seen.

import type { Clock } from '../../plumbing/clock.ts';
import type { BlobInfo, BlobStore } from '../blob-store.ts';
import { aroundStore, type StoreOperation } from './around-store.ts';

export interface OperationMetrics {
  calls: number;
  errors: number;
  bytes: number;
  /** Of all calls together. */
  milliseconds: number;
}

/** Grows for as long as the process lives; shared by all stores that are opened for one repository. */
export type StoreMetrics = Partial<Record<StoreOperation, OperationMetrics>>;

export function withMetrics(inner: BlobStore, metrics: StoreMetrics, clock: Clock): BlobStore {
  return aroundStore(inner, {
    around: async ({ operation, bytes }, act) => {
      const counted = countersOf(metrics, operation);
      const began = clock.monotonic();
      counted.calls += 1;
      try {
        const result = await act();
        counted.bytes += bytes;
        return result;
      } catch (error) {
        counted.errors += 1;
        throw error;
      } finally {
        counted.milliseconds += clock.monotonic() - began;
      }
    },
    list: (_prefix, list) => countList(list, countersOf(metrics, 'list'), clock),
    finished: (_name, size, appended) => {
      countersOf(metrics, 'finish').bytes += Math.max(0, size - appended);
    },
  });
}

function countersOf(metrics: StoreMetrics, operation: StoreOperation): OperationMetrics {
  const known = metrics[operation];
  if (known) return known;
  const fresh = { calls: 0, errors: 0, bytes: 0, milliseconds: 0 };
  metrics[operation] = fresh;
  return fresh;
}

/** The time of the store alone: the work of the caller between two blobs is not its own. */
async function* countList(list: () => AsyncIterable<BlobInfo>, counted: OperationMetrics, clock: Clock): AsyncGenerator<BlobInfo> {
  counted.calls += 1;
  const blobs = list()[Symbol.asyncIterator]();
  try {
    while (true) {
      const began = clock.monotonic();
      const next = await blobs.next().finally(() => {
        counted.milliseconds += clock.monotonic() - began;
      });
      if (next.done) return;
      yield next.value;
    }
  } catch (error) {
    counted.errors += 1;
    throw error;
  } finally {
    await blobs.return?.();
  }
}
