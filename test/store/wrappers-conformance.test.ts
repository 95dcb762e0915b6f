// The conformance suite through every wrapper, over a local store: a wrapped store is a store. And one wrapped by all of them.

import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '../../src/plumbing/clock.ts';
import { silentLogger } from '../../src/plumbing/logger.ts';
import { DEFAULT_RETRY } from '../../src/plumbing/retry.ts';
import type { BlobStore } from '../../src/store/blob-store.ts';
import { openLocalStore } from '../../src/store/local/local-store.ts';
import { storeConformance } from '../../src/store/testing/conformance.ts';
import { readOnly } from '../../src/store/wrap/read-only.ts';
import { openStoreLimiter } from '../../src/store/wrap/store-limiter.ts';
import { withLimits } from '../../src/store/wrap/with-limits.ts';
import { withLogging } from '../../src/store/wrap/with-logging.ts';
import { withMetrics } from '../../src/store/wrap/with-metrics.ts';
import { withRetry } from '../../src/store/wrap/with-retry.ts';

const LIMITS = { upload_bytes_per_second: 2 ** 33, download_bytes_per_second: 2 ** 33, concurrent_operations: 2 };

const WRAPPERS: Readonly<Record<string, (store: BlobStore) => BlobStore>> = {
  'with retry': (store) => withRetry(store, DEFAULT_RETRY),
  'with limits': (store) => withLimits(store, openStoreLimiter(systemClock, LIMITS)),
  'with limits, none set': (store) => withLimits(store, openStoreLimiter(systemClock)),
  'with logging': (store) => withLogging(store, silentLogger, systemClock),
  'with metrics': (store) => withMetrics(store, {}, systemClock),
  'all that is not written, read-only': (store) => {
    const { put, remove, protect, release, sweep } = writesOf(store);
    return { ...readOnly(store), put, delete: remove, protect, release, sweep };
  },
  'with everything': (store) =>
    withLogging(
      withRetry(withLimits(withMetrics(store, {}, systemClock), openStoreLimiter(systemClock, LIMITS)), DEFAULT_RETRY),
      silentLogger,
      systemClock,
    ),
};

function writesOf(store: BlobStore) {
  return {
    put: store.put.bind(store),
    remove: store.delete.bind(store),
    protect: store.protect.bind(store),
    release: store.release.bind(store),
    sweep: store.sweep.bind(store),
  };
}

for (const [name, wrap] of Object.entries(WRAPPERS)) {
  storeConformance(`local ${name}`, async () => {
    const path = await mkdtemp(join('/dev/shm', 'chainkeep-store-'));
    const inner = await openLocalStore(path, { create: false });
    const dispose = async (): Promise<void> => {
      for await (const { name } of inner.list('')) if (!name.includes(' ')) await inner.release(name);
      await rm(path, { recursive: true });
    };
    return { store: wrap(inner), dispose };
  });
}
