// What is put around the store of a repository when it is opened for use: counting, limits that follow the catalog while it is used, and by its
// settings repetitions and a log of its calls.
// It must not open a store, and what the database does not answer changes nothing: the limits stay as they were.

import { type BackupRepository, findRepository } from '../catalog/backup-repositories.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { type Owner, ownerColumn } from '../catalog/owner-fields.ts';
import { listRepositoryUsers } from '../catalog/repository-users.ts';
import type { Logger } from '../plumbing/logger.ts';
import { openRetryBudget, type RetryBudget } from '../plumbing/retry.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { limitsOf, logsOperations, retryPolicyOf } from '../store/common-settings.ts';
import { aroundStore } from '../store/wrap/around-store.ts';
import { countingWrites } from '../store/wrap/counting-writes.ts';
import { openStoreLimiter, type StoreLimiter } from '../store/wrap/store-limiter.ts';
import { withLimits } from '../store/wrap/with-limits.ts';
import { withLogging } from '../store/wrap/with-logging.ts';
import { type StoreMetrics, withMetrics } from '../store/wrap/with-metrics.ts';
import { withRetry } from '../store/wrap/with-retry.ts';
import { currentOwner, isProvablyDead } from './owner.ts';

export interface StoreUse {
  readonly logger: Logger;
  /** Once it fires, nothing waits for a limit any more. */
  readonly signal?: AbortSignal;
}

export interface WrappedStore {
  readonly store: BlobStore;
  /** Bytes written through it so far. */
  written(): number;
}

export interface StoreWraps {
  /** The limits are looked at every two seconds until the store is closed. */
  wrap(row: BackupRepository, store: BlobStore, use: StoreUse): WrappedStore;
  /** By the id of the repository, of this process since its start. */
  metrics(): ReadonlyMap<string, StoreMetrics>;
}

/** What all stores have in common that this process opens for one repository. */
interface Shared {
  readonly metrics: StoreMetrics;
  readonly limiter: StoreLimiter;
  readonly budget: RetryBudget;
  open: number;
  timer: NodeJS.Timeout | undefined;
}

const LOOK_EVERY_MS = 2000;

/** `lookEvery` in milliseconds. */
export function openStoreWraps(catalog: Catalog, lookEvery = LOOK_EVERY_MS): StoreWraps {
  const { clock } = catalog;
  const all = new Map<string, Shared>();
  const sharedOf = (id: string): Shared => {
    const known = all.get(id);
    if (known) return known;
    const fresh = { metrics: {}, limiter: openStoreLimiter(clock), budget: openRetryBudget(), open: 0, timer: undefined };
    all.set(id, fresh);
    return fresh;
  };
  return {
    wrap: (row, inner, { logger, signal }) => {
      const { config } = row;
      const shared = sharedOf(row.id);
      const counted = countingWrites(withMetrics(inner, shared.metrics, clock));
      let store = withLimits(counted.store, shared.limiter, signal);
      const policy = retryPolicyOf(config);
      if (policy) store = withRetry(store, policy, { budget: shared.budget, clock, ...(signal && { signal }), onRetry: tellRetry(logger) });
      if (logsOperations(config)) store = withLogging(store, logger, clock);
      const unwatch = watch(catalog, row, shared, lookEvery);
      const close = async (): Promise<void> => {
        unwatch();
        await inner.close();
      };
      return { store: aroundStore(store, { around: (_call, act) => act(), close }), written: counted.written };
    },
    metrics: () => new Map([...all].map(([id, { metrics }]) => [id, metrics])),
  };
}

function tellRetry(logger: Logger) {
  return (error: unknown, attempt: number, pause: number): void =>
    logger.log('warn', `attempt ${attempt} failed, the next one follows in ${pause} ms: ${error instanceof Error ? error.message : error}`);
}

/** As many as are open: one timer. Answers how it is stopped. */
function watch(catalog: Catalog, row: BackupRepository, shared: Shared, lookEvery: number): () => void {
  shared.open += 1;
  shared.limiter.set(limitsOf(row.config));
  if (Object.keys(limitsOf(row.config)).length > 0) void look(catalog, row.id, shared);
  shared.timer ??= setInterval(() => void look(catalog, row.id, shared), lookEvery).unref();
  let stopped = false;
  return () => {
    if (stopped) return;
    stopped = true;
    shared.open -= 1;
    if (shared.open > 0) return;
    clearInterval(shared.timer);
    shared.timer = undefined;
  };
}

async function look(catalog: Catalog, id: string, shared: Shared): Promise<void> {
  try {
    const row = await findRepository(catalog, id);
    if (!row || shared.open === 0) return;
    const limits = limitsOf(row.config);
    const limited = Object.keys(limits).length > 0;
    shared.limiter.set(limits, limited ? await countProcesses(catalog, id) : undefined);
  } catch {
    // The database does not answer at this moment: the limits stay, and the next look is two seconds away. The job itself notices, and says so.
  }
}

/** Processes that use it, this one always among them: each takes its part of the limits. */
async function countProcesses(catalog: Catalog, id: string): Promise<{ readonly writing: number; readonly reading: number }> {
  const self = await currentOwner(catalog);
  const users = await listRepositoryUsers(catalog, id);
  const count = (owners: readonly Owner[]): number =>
    new Set([self, ...owners.filter((owner) => !isProvablyDead(owner, self))].map((owner) => ownerColumn.encode(owner, 'owner', 'sqlite')))
      .size;
  return { writing: count(users.writing), reading: count(users.reading) };
}
