// A store that writes each of its calls into the log, with how long it took and how it ended. For finding out what is slow or failing.
// It must not log what is in the blobs, and hides nothing: what threads do with a descriptor is not seen, only what became of the blob.

import type { Clock } from '../../plumbing/clock.ts';
import { isChainkeepError } from '../../plumbing/errors.ts';
import type { Logger } from '../../plumbing/logger.ts';
import type { BlobInfo, BlobStore } from '../blob-store.ts';
import { aroundStore, type StoreCall } from './around-store.ts';

export function withLogging(inner: BlobStore, logger: Logger, clock: Clock): BlobStore {
  const tell = ({ operation, name, bytes }: StoreCall, began: number, attrs: Readonly<Record<string, unknown>>): void => {
    const duration_ms = Math.round((clock.monotonic() - began) * 100) / 100;
    const what = [operation, name].filter((part) => part !== '').join(' ');
    logger.log('debug', `store: ${what}`, { operation, name, ...(bytes > 0 && { bytes }), duration_ms, ...attrs });
  };
  return aroundStore(inner, {
    around: async (call, act) => {
      const began = clock.monotonic();
      try {
        const result = await act();
        tell(call, began, {});
        return result;
      } catch (error) {
        tell(call, began, describe(error));
        throw error;
      }
    },
    list: (prefix, list) => logList(list, (began, attrs) => tell({ operation: 'list', name: prefix, bytes: 0 }, began, attrs), clock),
  });
}

/** One line for a listing; its time is that of the whole loop, the work of the caller between two blobs with it. */
async function* logList(
  list: () => AsyncIterable<BlobInfo>,
  tell: (began: number, attrs: Readonly<Record<string, unknown>>) => void,
  clock: Clock,
): AsyncGenerator<BlobInfo> {
  const began = clock.monotonic();
  let blobs = 0;
  let end: Readonly<Record<string, unknown>> = {};
  try {
    for await (const blob of list()) {
      blobs += 1;
      yield blob;
    }
  } catch (error) {
    end = describe(error);
    throw error;
  } finally {
    tell(began, { blobs, ...end });
  }
}

function describe(error: unknown): Readonly<Record<string, unknown>> {
  return { error: error instanceof Error ? error.message : String(error), ...(isChainkeepError(error) && { code: error.code }) };
}
