// The store kind `local`: a folder on a disk of this machine.

import { ChainkeepError } from '../../plumbing/errors.ts';
import type { StoreKind } from '../store-kind.ts';
import { openLocalStore } from './local-store.ts';

export const localKind: StoreKind = {
  type: 'local',
  loadConfigSchema: async () => (await import('./local-config.ts')).localConfigSchema,
  open: (config, options) => openLocalStore(pathOf(config), options),
};

function pathOf(config: unknown): string {
  if (typeof config === 'object' && config !== null && 'path' in config && typeof config.path === 'string') return config.path;
  throw new ChainkeepError('CONFIG_INVALID', 'a local repository needs the setting "path"', { advice: 'register it again with its path' });
}
