// The store kinds `nfs`, `cifs` and `smb`: a share that the kernel mounts, used as a folder by a process of its own.

import { rmdir } from 'node:fs/promises';
import { systemCode } from '../../plumbing/errors.ts';
import type { BlobStore } from '../blob-store.ts';
import { placeOf } from '../place-of.ts';
import type { OpenStoreOptions, StoreConfig, StoreKind } from '../store-kind.ts';
import { planMount } from './mount-plan.ts';
import { OPEN_LIMIT_MS, openMountedStore } from './mounted-store.ts';

const loadCifsSchema = async () => (await import('./cifs-config.ts')).cifsConfigSchema;

/** As in a local folder; shares have no attribute, so there it is mode bits where they stay, and our refusal. */
const LOCK = { type: 'linux_chattr' } as const;

export const nfsKind: StoreKind = {
  type: 'nfs',
  lock: LOCK,
  openLimit: OPEN_LIMIT_MS,
  loadConfigSchema: async () => (await import('./nfs-config.ts')).nfsConfigSchema,
  open: (config, options) => open('nfs', config, options),
};

/** Two names for the same. */
export const cifsKind: StoreKind = {
  type: 'cifs',
  lock: LOCK,
  openLimit: OPEN_LIMIT_MS,
  loadConfigSchema: loadCifsSchema,
  open: (config, options) => open('cifs', config, options),
};

export const smbKind: StoreKind = { ...cifsKind, type: 'smb' };

async function open(type: 'nfs' | 'cifs', config: StoreConfig, { create, home, onMade }: OpenStoreOptions): Promise<BlobStore> {
  const settings = planMount(type, config, home);
  const { mount, ownFolder, mountPoint, stateFolder } = settings.plan;
  const told = (folder: string): void => onMade?.(() => removeEmpty(folder));
  if (create && mount) {
    // Told before they are made: a mount that hangs leaves its folders too. They are ours alone, whoever made them.
    if (stateFolder !== undefined) told(stateFolder);
    if (ownFolder) told(mountPoint);
  }
  return openMountedStore(settings, { create, place: placeOf(type, config), onMade: told });
}

/** Not one that something is mounted on, nor one that has something in it. */
async function removeEmpty(folder: string): Promise<void> {
  try {
    await rmdir(folder);
  } catch (error) {
    if (!['ENOENT', 'ENOTEMPTY', 'EBUSY', 'EEXIST'].includes(systemCode(error) ?? '')) throw error;
  }
}
