// A manager of repositories over a scratch catalog and a scratch folder, in which buckets are folders too.

import { join } from 'node:path';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { installationId } from '../../src/control/installation.ts';
import { RepositoryManager, type RepositoryManagerOptions } from '../../src/control/repository-manager.ts';
import { openKeyStore } from '../../src/control/secret-keys.ts';
import { type Clock, systemClock } from '../../src/plumbing/clock.ts';
import { Secret } from '../../src/plumbing/secret.ts';
import { openLocalStore } from '../../src/store/local/local-store.ts';
import { openStore } from '../../src/store/registry.ts';
import type { StoreConfig } from '../../src/store/store-kind.ts';
import { openScratch, scratchFolder } from '../catalog/scratch-catalog.ts';

export const S3 = { bucket: 'backups', access_key_id: 'AKIA' };

export interface Scene {
  readonly manager: RepositoryManager;
  readonly catalog: Catalog;
  readonly folder: string;
  /** What the stores of kind s3 and azure were opened with; they lie in folders here. */
  readonly opened: StoreConfig[];
  /** Another one over the same catalog. */
  open(options: Partial<RepositoryManagerOptions>): RepositoryManager;
  path(name: string): string;
}

export async function openScene(clock: Clock = systemClock): Promise<Scene> {
  const { catalog } = await openScratch(clock);
  const folder = await scratchFolder();
  const opened: StoreConfig[] = [];
  const asFolders: typeof openStore = async (type, config, options) => {
    if (type === 'local') return openStore(type, config, options);
    opened.push(config);
    return openLocalStore(join(folder, String(config.bucket ?? config.container_name)), options);
  };
  const open = (options: Partial<RepositoryManagerOptions>): RepositoryManager => {
    const keys = async () => openKeyStore({ home: folder, installationId: await installationId(catalog) });
    return new RepositoryManager({ catalog, clock, installationId: () => installationId(catalog), keys, openStore: asFolders, ...options });
  };
  return { manager: open({}), catalog, folder, opened, open, path: (name) => join(folder, name) };
}

export function addLocal({ manager, path }: Scene, name: string, place = name) {
  return manager.registerRepository({ name, type: 'local', settings: { path: path(place) }, takeOver: false });
}

export function addS3({ manager }: Scene, secret = 'hush-hush') {
  return manager.registerRepository({
    name: 'cloud',
    type: 's3',
    settings: S3,
    secrets: { secret_access_key: new Secret(secret) },
    takeOver: false,
  });
}
