// Configured repositories: registers places, opens them, and knows which are there. Configuration is the catalog's, backups the repository's.

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
import { type Logger, silentLogger } from '../plumbing/logger.ts';
import { realPlace } from '../plumbing/real-place.ts';
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
    refuseName(input.name);
    const config = await parseStoreConfig(input.type, input.config);
    const own = await this.#findTaken(input, config);
    if (own) return this.#takeBack(own);
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

  /** Writes files of its own and removes them: refused where the marker is not there, or belongs to another installation. */
  async testRepository(nameOrId: string): Promise<readonly SelfTestStep[]> {
    const row = await this.getRepository(nameOrId);
    const { repository } = await this.openRepository(row, silentLogger);
    await repository.close();
    if (repository.readOnly) throw readOnlyError(row);
    return this.#withStore(row, (store) => selfTest(store, this.#clock));
  }

  /** Measures one repository and keeps the numbers; one that is offline is marked so. */
  async refreshStorage(row: BackupRepository): Promise<BackupRepository> {
    try {
      await updateRepository(this.#catalog, row.id, storageFields(await this.#measure(row), this.#clock));
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

  /** An empty folder where a disk was mounted has room too: only the marker says that the repository is there. */
  async #measure(row: BackupRepository): ReturnType<BlobStore['capacity']> {
    const { repository } = await this.openRepository(row, silentLogger);
    try {
      return await repository.getStorageInfo();
    } finally {
      await repository.close();
    }
  }

  /** Throws REPOSITORY_EXISTS; the repository itself, when it is to be taken back from another installation, is answered. */
  async #findTaken(input: NewRepository, config: Readonly<Record<string, unknown>>): Promise<BackupRepository | undefined> {
    const rows = await this.listRepositories();
    const own = rows.find((row) => row.name === input.name && samePlace(row.config, config));
    if (own && input.takeOver) return own;
    for (const row of rows) {
      const taken = takenBy(row, input.name, config);
      if (taken === undefined) continue;
      throw new ChainkeepError('REPOSITORY_EXISTS', taken, {
        advice: 'choose another one, or see what there is with: chainkeep repo list',
        context: { name: row.name, repository_id: row.id },
      });
    }
    return undefined;
  }

  async #takeBack(row: BackupRepository): Promise<BackupRepository> {
    const { repository } = await this.openRepository(row, silentLogger);
    await repository.close();
    await this.#withStore(row, async (store) =>
      claimRepository({ store, clock: this.#clock, installationId: await this.#installationId(), takeOver: true }),
    );
    return row;
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

const LONGEST_NAME = 255;

/** Before anything is made: what the catalog would refuse must not have left a marker. */
function refuseName(name: string): void {
  const length = Array.from(name).length;
  if (length > 0 && length <= LONGEST_NAME) return;
  throw new ChainkeepError('CONFIG_INVALID', `the name of a repository has 1 to ${LONGEST_NAME} characters, not ${length}`, {
    advice: 'choose another name',
  });
}

/** Why a new repository cannot be registered beside `row`. */
function takenBy(row: BackupRepository, name: string, config: Readonly<Record<string, unknown>>): string | undefined {
  if (row.name === name) return `a repository called ${name} is registered already`;
  if (samePlace(row.config, config)) return `the repository ${row.name} lies in this place already`;
  if (isInside(config, row.config)) return `this place lies inside of the repository ${row.name}`;
  return isInside(row.config, config) ? `the repository ${row.name} lies inside of this place` : undefined;
}

function samePlace(a: Readonly<Record<string, unknown>>, b: Readonly<Record<string, unknown>>): boolean {
  return isInside(a, b) && isInside(b, a);
}

/** Is the place of `inner` that of `outer`, or below it? */
function isInside(inner: Readonly<Record<string, unknown>>, outer: Readonly<Record<string, unknown>>): boolean {
  if (typeof inner.path !== 'string' || typeof outer.path !== 'string') return false;
  return `${realPlace(inner.path)}/`.startsWith(`${realPlace(outer.path)}/`);
}

function readOnlyError(row: BackupRepository): ChainkeepError {
  return new ChainkeepError(
    'REPOSITORY_FOREIGN',
    `the repository ${row.name} belongs to another installation of Chainkeep: nothing is written there`,
    {
      advice: 'only one installation writes to a repository: take it over with repo add --take-over when the other one is gone',
      context: { repository: row.name, repository_id: row.id },
    },
  );
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
