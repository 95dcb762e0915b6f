// What everything that is done with configured repositories works with.

import type { BackupRepository } from '../catalog/backup-repositories.ts';
import type { Catalog } from '../catalog/catalog.ts';
import type { Clock } from '../plumbing/clock.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import type { Logger } from '../plumbing/logger.ts';
import { type Immutability, parseImmutability } from '../repository/immutability.ts';
import type { Repository } from '../repository/repository.ts';
import type { BlobStore, StoreCapacity } from '../store/blob-store.ts';
import { splitCommon } from '../store/common-settings.ts';
import { loadStoreKind, type openStore } from '../store/registry.ts';
import type { StoreConfig } from '../store/store-kind.ts';
import { currentMachine } from './machine.ts';
import type { Reachability } from './reachability.ts';
import type { KeyStore } from './secret-keys.ts';
import { readSecrets } from './secrets.ts';
import { type ClockVerdict, readTrustedTime } from './trusted-time.ts';

export interface RepositoryContext {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly installationId: () => Promise<string>;
  readonly keys: () => Promise<KeyStore>;
  readonly openStore: typeof openStore;
  readonly reachability: Reachability;
}

/** The settings of a repository with its secrets in their places, for opening its store and for nothing else. */
export async function fullConfig({ catalog, keys }: RepositoryContext, row: BackupRepository): Promise<StoreConfig> {
  const secrets = await readSecrets(catalog, keys, row.id);
  const { own } = splitCommon(row.config);
  return secrets.size === 0 ? own : { ...own, ...Object.fromEntries(secrets) };
}

export async function openStoreOf(context: RepositoryContext, row: BackupRepository): Promise<BlobStore> {
  return context.openStore(row.repository_type, await fullConfig(context, row), { create: false });
}

/** What a look at a store says of its room and its health. */
export function storageFields(capacity: StoreCapacity | undefined, at: string): Partial<BackupRepository> {
  const checked = { last_check_at: at, health: 'healthy' } as const;
  if (!capacity) return checked;
  const { totalBytes, usedBytes, availableBytes } = capacity;
  return { ...checked, total_size_bytes: totalBytes, used_size_bytes: usedBytes, available_size_bytes: availableBytes };
}

/** What the catalog asks for; undefined where it asks for nothing. */
export function immutabilityOf({ immutable_config, min_retention_days }: BackupRepository): Immutability | undefined {
  if (!immutable_config && min_retention_days === 0) return undefined;
  const settings = parseImmutability({ min_retention_days, ...immutable_config });
  return { ...settings, min_retention_days: Math.max(settings.min_retention_days, min_retention_days) };
}

/** The repository of a row in its store. The caller closes it, and the store with it. */
export async function openIn(
  { catalog, clock, installationId }: RepositoryContext,
  row: BackupRepository,
  store: BlobStore,
  logger: Logger,
): Promise<Repository> {
  // Not with the program: what only looks into the catalog starts sooner without the rooms of the data.
  const { openRepository } = await import('../repository/repository.ts');
  const opened = { store, clock, logger, repositoryId: row.id, installationId: await installationId() };
  return openRepository({ ...opened, immutability: immutabilityOf(row), time: () => timeAt(catalog, store) });
}

/** Before anything is written that the marker of another installation would forbid half way. */
export function refuseReadOnly(row: BackupRepository, { readOnly }: Pick<Repository, 'readOnly'>): void {
  if (!readOnly) return;
  throw new ChainkeepError(
    'REPOSITORY_FOREIGN',
    `the repository ${row.name} belongs to another installation of Chainkeep: nothing is written there`,
    {
      advice: 'only one installation writes to a repository: take it over with repo add --take-over when the other one is gone',
      context: { repository: row.name, repository_id: row.id },
    },
  );
}

/** What can be believed of the time, by the clock of this machine and that of a store. */
export async function timeAt(catalog: Catalog, store?: BlobStore): Promise<ClockVerdict> {
  return readTrustedTime(catalog, await currentMachine(catalog), store && (() => store.now()));
}

/** Milliseconds that opening a store of this type may take; undefined for what is usual. */
export async function openLimitOf(type: string): Promise<number | undefined> {
  return (await loadStoreKind(type)).openLimit;
}
