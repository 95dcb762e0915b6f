// Configured repositories: registers places, opens them, and knows which are there. Configuration is the catalog's, backups the repository's.

import { resolve } from 'node:path';
import { countBackupJobs } from '../catalog/backup-jobs.ts';
import {
  type BackupRepository,
  countBackupsByRepository,
  deleteRepository,
  getRepository,
  insertRepository,
  listRepositories,
  updateRepository,
} from '../catalog/backup-repositories.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { forgetBackups } from '../catalog/complete-backup.ts';
import { type Clock, isoTime } from '../plumbing/clock.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import type { Logger } from '../plumbing/logger.ts';
import { claimRepository, openRepository, type Repository } from '../repository/repository.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { openStore, parseStoreConfig } from '../store/registry.ts';
import { type SelfTestStep, selfTest } from '../store/self-test.ts';

export interface NewRepository {
  readonly name: string;
  readonly type: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly takeOver: boolean;
}

export interface OpenedRepository {
  readonly row: BackupRepository;
  readonly repository: Repository;
}

export class RepositoryManager {
  readonly #catalog: Catalog;
  readonly #clock: Clock;
  readonly #installationId: () => Promise<string>;

  constructor(catalog: Catalog, clock: Clock, installationId: () => Promise<string>) {
    this.#catalog = catalog;
    this.#clock = clock;
    this.#installationId = installationId;
  }

  /** Checks the configuration, tries the place, claims it by its marker, and only then keeps it. */
  async registerRepository(input: NewRepository): Promise<BackupRepository> {
    const config = await parseStoreConfig(input.type, input.config);
    await this.#refuseTaken(input.name, config);
    const store = await openStore(input.type, config, { create: true });
    try {
      const marker = await claimRepository({
        store,
        clock: this.#clock,
        installationId: await this.#installationId(),
        takeOver: input.takeOver,
      });
      const capacity = await store.capacity();
      await insertRepository(this.#catalog, {
        id: marker.repository_id,
        name: input.name,
        repository_type: storeType(input.type),
        config,
        created_at: isoTime(this.#clock.now()),
        ...storageFields(capacity, this.#clock),
      });
    } finally {
      await store.close();
    }
    return getRepository(this.#catalog, input.name);
  }

  getRepository(nameOrId: string): Promise<BackupRepository> {
    return getRepository(this.#catalog, nameOrId);
  }

  listRepositories(): Promise<readonly BackupRepository[]> {
    return listRepositories(this.#catalog);
  }

  countBackups(): Promise<ReadonlyMap<string, number>> {
    return countBackupsByRepository(this.#catalog);
  }

  async testRepository(nameOrId: string): Promise<readonly SelfTestStep[]> {
    return this.#withStore(await this.getRepository(nameOrId), (store) => selfTest(store, this.#clock));
  }

  /** Measures one repository and keeps the numbers; one that is offline is marked so. */
  async refreshStorage(row: BackupRepository): Promise<BackupRepository> {
    try {
      const capacity = await this.#withStore(row, (store) => store.capacity());
      await updateRepository(this.#catalog, row.id, storageFields(capacity, this.#clock));
    } catch (error) {
      if (!(error instanceof ChainkeepError) || error.code !== 'REPOSITORY_OFFLINE') throw error;
      await updateRepository(this.#catalog, row.id, { health: 'offline', last_check_at: isoTime(this.#clock.now()) });
    }
    return this.getRepository(row.id);
  }

  /** Files stay where they are. Throws REPOSITORY_IN_USE while the catalog has backups in it, unless they are forgotten. */
  async deleteRepository(nameOrId: string, options: { readonly forget: boolean }): Promise<void> {
    const row = await this.getRepository(nameOrId);
    const count = await countBackupJobs(this.#catalog, { repositoryId: row.id });
    if (count > 0 && !options.forget) {
      throw new ChainkeepError('REPOSITORY_IN_USE', `repository ${row.name} holds ${count} backup${count > 1 ? 's' : ''}`, {
        advice: 'delete the backups first, or keep the files and only forget the repository with --forget',
        context: { repository: row.name, backup_count: count },
      });
    }
    await forgetBackups(this.#catalog, row.id);
    await deleteRepository(this.#catalog, row.id);
  }

  /** The caller closes it. Throws REPOSITORY_OFFLINE, REPOSITORY_INVALID. */
  async openRepository(row: BackupRepository, logger: Logger): Promise<OpenedRepository> {
    const store = await openStore(row.repository_type, row.config, { create: false });
    try {
      const installationId = await this.#installationId();
      const repository = await openRepository({ store, clock: this.#clock, logger, repositoryId: row.id, installationId });
      return { row, repository };
    } catch (error) {
      await store.close();
      throw error;
    }
  }

  async #refuseTaken(name: string, config: Readonly<Record<string, unknown>>): Promise<void> {
    for (const row of await this.listRepositories()) {
      const taken =
        row.name === name ? `the name ${name} is taken` : samePlace(row.config, config) ? `${row.name} lies in the same place` : undefined;
      if (taken) {
        throw new ChainkeepError('REPOSITORY_EXISTS', `${taken} by a repository that is registered already`, {
          advice: 'choose another one, or see what there is with: chainkeep repo list',
          context: { name: row.name, repository_id: row.id },
        });
      }
    }
  }

  async #withStore<T>(row: BackupRepository, use: (store: BlobStore) => Promise<T>): Promise<T> {
    const store = await openStore(row.repository_type, row.config, { create: false });
    try {
      return await use(store);
    } finally {
      await store.close();
    }
  }
}

function samePlace(a: Readonly<Record<string, unknown>>, b: Readonly<Record<string, unknown>>): boolean {
  return typeof a.path === 'string' && typeof b.path === 'string' && resolve(a.path) === resolve(b.path);
}

function storeType(type: string): BackupRepository['repository_type'] {
  const known = (['local', 'nfs', 'cifs', 'smb', 's3', 'azure'] as const).find((candidate) => candidate === type);
  if (known) return known;
  throw new ChainkeepError('CONFIG_INVALID', `${type} is no type of repository`, {
    advice: 'the types are local, nfs, cifs, smb, s3 and azure',
  });
}

function storageFields(capacity: Awaited<ReturnType<BlobStore['capacity']>>, clock: Clock): Partial<BackupRepository> {
  const checked = { last_check_at: isoTime(clock.now()), health: 'healthy' } as const;
  if (!capacity) return checked;
  const { totalBytes, usedBytes, availableBytes } = capacity;
  return { ...checked, total_size_bytes: totalBytes, used_size_bytes: usedBytes, available_size_bytes: availableBytes };
}
