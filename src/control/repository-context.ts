// What everything that is done with configured repositories works with.

import type { BackupRepository } from '../catalog/backup-repositories.ts';
import type { Catalog } from '../catalog/catalog.ts';
import type { Clock } from '../plumbing/clock.ts';
import type { BlobStore, StoreCapacity } from '../store/blob-store.ts';
import { loadStoreKind, type openStore } from '../store/registry.ts';
import type { StoreConfig } from '../store/store-kind.ts';
import type { Reachability } from './reachability.ts';
import type { KeyStore } from './secret-keys.ts';
import { readSecrets } from './secrets.ts';

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
  return secrets.size === 0 ? row.config : { ...row.config, ...Object.fromEntries(secrets) };
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

/** Milliseconds that opening a store of this type may take; undefined for what is usual. */
export async function openLimitOf(type: string): Promise<number | undefined> {
  return (await loadStoreKind(type)).openLimit;
}
