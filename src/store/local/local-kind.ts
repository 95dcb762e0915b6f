// The store kind `local`: a folder on a disk of this machine.

import { ChainkeepError } from '../../plumbing/errors.ts';
import type { StoreConfig, StoreKind } from '../store-kind.ts';
import { openLocalStore } from './local-store.ts';

export const localKind: StoreKind = {
  type: 'local',
  lock: { type: 'linux_chattr' },
  loadConfigSchema: async () => (await import('./local-config.ts')).localConfigSchema,
  open: (config, options) => openLocalStore(pathOf(config), options),
};

function pathOf({ path }: StoreConfig): string {
  if (typeof path === 'string') return path;
  throw new ChainkeepError('CONFIG_INVALID', 'a local repository needs the setting "path"', { advice: 'register it again with its path' });
}
