// The list of store kinds. Each is loaded when it is first used: nobody pays for a cloud SDK that he does not need.

import { ChainkeepError } from '../plumbing/errors.ts';
import type { BlobStore } from './blob-store.ts';
import { plannedKind } from './planned-kind.ts';
import type { OpenStoreOptions, StoreConfig, StoreKind, StoreType } from './store-kind.ts';

const loadCifsSchema = async () => (await import('./mounted/cifs-config.ts')).cifsConfigSchema;

const KINDS: Readonly<Record<StoreType, () => Promise<StoreKind>>> = {
  local: async () => (await import('./local/local-kind.ts')).localKind,
  nfs: async () => plannedKind({ type: 'nfs', loadConfigSchema: async () => (await import('./mounted/nfs-config.ts')).nfsConfigSchema }),
  cifs: async () => plannedKind({ type: 'cifs', loadConfigSchema: loadCifsSchema }),
  smb: async () => plannedKind({ type: 'smb', loadConfigSchema: loadCifsSchema }),
  s3: async () => (await import('./s3/s3-kind.ts')).s3Kind,
  azure: async () => (await import('./azure/azure-kind.ts')).azureKind,
};

function isStoreType(type: string): type is StoreType {
  return Object.hasOwn(KINDS, type);
}

/** CONFIG_INVALID for a type that does not exist. */
export async function loadStoreKind(type: string): Promise<StoreKind> {
  if (isStoreType(type)) return KINDS[type]();
  throw new ChainkeepError('CONFIG_INVALID', `there is no repository type ${JSON.stringify(type)}`, {
    advice: `known types: ${Object.keys(KINDS).join(', ')}`,
    context: { type },
  });
}

/** Opens a store whose settings passed `parseStoreConfig` when it was registered. NOT_BUILT_YET for a kind that is planned. */
export async function openStore(type: string, config: StoreConfig, options: OpenStoreOptions): Promise<BlobStore> {
  return (await loadStoreKind(type)).open(config, options);
}
