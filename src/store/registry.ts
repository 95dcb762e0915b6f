// The list of store kinds. Each is loaded when it is first used: nobody pays for a cloud SDK that he does not need.

import { ChainkeepError } from '../plumbing/errors.ts';
import type { BlobStore } from './blob-store.ts';
import type { OpenStoreOptions, StoreKind, StoreType } from './store-kind.ts';

const KINDS: Readonly<Record<StoreType, (() => Promise<StoreKind>) | 'planned'>> = {
  local: async () => (await import('./local/local-kind.ts')).localKind,
  nfs: 'planned',
  cifs: 'planned',
  smb: 'planned',
  s3: 'planned',
  azure: 'planned',
};

function isStoreType(type: string): type is StoreType {
  return Object.hasOwn(KINDS, type);
}

/** CONFIG_INVALID for a type that does not exist, NOT_BUILT_YET for one that is planned. */
export async function loadStoreKind(type: string): Promise<StoreKind> {
  if (!isStoreType(type)) {
    throw new ChainkeepError('CONFIG_INVALID', `there is no repository type ${JSON.stringify(type)}`, {
      advice: `known types: ${Object.keys(KINDS).join(', ')}`,
      context: { type },
    });
  }
  const load = KINDS[type];
  if (load === 'planned') {
    throw new ChainkeepError('NOT_BUILT_YET', `repositories of type ${type} are planned and not built yet`, {
      advice: 'use a repository of type local; a share that is mounted already is a folder too',
      context: { type },
    });
  }
  return load();
}

/** Checks settings at registration and fills in defaults. CONFIG_INVALID names every field that is wrong. */
export async function parseStoreConfig(type: string, config: unknown): Promise<Readonly<Record<string, unknown>>> {
  const schema = await (await loadStoreKind(type)).loadConfigSchema();
  const parsed = schema.safeParse(config);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map((issue) => [issue.path.join('.'), issue.message].filter((part) => part !== '').join(': '));
  throw new ChainkeepError('CONFIG_INVALID', `settings of a repository of type ${type}: ${faults.join('; ')}`, {
    advice: 'correct the setting: chainkeep repo add --help shows how they are given',
    context: { type, faults },
  });
}

/** Opens a store whose settings passed {@link parseStoreConfig} when it was registered. */
export async function openStore(type: string, config: unknown, options: OpenStoreOptions): Promise<BlobStore> {
  return (await loadStoreKind(type)).open(config, options);
}
