// Configured repositories: registers places, opens them, and knows which are there. Configuration is the catalog's, backups the repository's.
// One that is offline, slow or without its key is told by its health; it must not keep the others waiting.

import { countBackupJobs } from '../catalog/backup-jobs.ts';
import {
  type BackupRepository,
  countBackupsByRepository,
  deleteRepository,
  getRepository,
  listRepositories,
  updateRepository as updateRow,
} from '../catalog/backup-repositories.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { forgetBackups } from '../catalog/complete-backup.ts';
import { type Clock, isoTime } from '../plumbing/clock.ts';
import { ChainkeepError, isChainkeepError } from '../plumbing/errors.ts';
import { type Logger, silentLogger } from '../plumbing/logger.ts';
import { openRepository, type Repository } from '../repository/repository.ts';
import type { GivenConfig } from '../store/parse-config.ts';
import { openStore } from '../store/registry.ts';
import { type SelfTestStep, selfTest } from '../store/self-test.ts';
import { currentOwner } from './owner.ts';
import { openReachability } from './reachability.ts';
import type { NewRepository } from './register-repository.ts';
import { fullConfig, openLimitOf, openStoreOf, type RepositoryContext, storageFields } from './repository-context.ts';
import type { KeyStore } from './secret-keys.ts';
import { type Rotation, rotateKeys } from './secrets.ts';
import { removeSelfTestLeftovers, selfTestName } from './self-test-leftovers.ts';
import type { RepositoryChanges } from './update-repository.ts';

export interface RepositoryManagerOptions {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly installationId: () => Promise<string>;
  /** Where the keys of secrets are. */
  readonly keys: () => Promise<KeyStore>;
  /** Milliseconds until a repository that does not answer counts as offline; default 8000. */
  readonly timeLimit?: number;
  readonly openStore?: typeof openStore;
  /** Folder of this installation, which shares are mounted below. */
  readonly home?: string;
}

export interface OpenedRepository {
  readonly row: BackupRepository;
  readonly repository: Repository;
}

/** What a look at a repository found. */
export interface RepositoryState {
  readonly row: BackupRepository;
  readonly readOnly: boolean;
  /** Why it cannot be used. */
  readonly problem: string | undefined;
}

const TIME_LIMIT_MS = 8000;

export class RepositoryManager {
  readonly #context: RepositoryContext;
  readonly #catalog: Catalog;

  constructor(options: RepositoryManagerOptions) {
    const { home, openStore: open = openStore } = options;
    this.#context = {
      ...options,
      openStore: home === undefined ? open : (type, config, how) => open(type, config, { ...how, home }),
      reachability: openReachability(options.clock, options.timeLimit ?? TIME_LIMIT_MS),
    };
    this.#catalog = options.catalog;
  }

  /** Checks the configuration, tries the place, claims it by its marker, and only then keeps it. Nothing remains when a step fails. */
  async registerRepository(input: NewRepository): Promise<BackupRepository> {
    const { registerRepository } = await import('./register-repository.ts');
    return registerRepository(this.#context, input);
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

  async updateRepository(nameOrId: string, changes: RepositoryChanges): Promise<BackupRepository> {
    const { updateRepository } = await import('./update-repository.ts');
    return updateRepository(this.#context, nameOrId, changes);
  }

  /** Writes files of its own and removes them: refused where the marker is not there, or belongs to another installation. */
  async testRepository(nameOrId: string): Promise<readonly SelfTestStep[]> {
    const row = await this.getRepository(nameOrId);
    const { repository } = await this.openRepository(row, silentLogger);
    await repository.close();
    if (repository.readOnly) throw readOnlyError(row);
    const store = await openStoreOf(this.#context, row);
    try {
      const owner = await currentOwner(this.#catalog);
      await removeSelfTestLeftovers(store, owner, this.#context.clock);
      return await selfTest(store, this.#context.clock, selfTestName(owner));
    } finally {
      await store.close();
    }
  }

  /** The same for a place that is not registered; nothing remains there. */
  async testPlace(type: string, given: GivenConfig): Promise<readonly SelfTestStep[]> {
    const { testPlace } = await import('./register-repository.ts');
    return testPlace(this.#context, type, given);
  }

  /** Encrypts all secrets with a new key. */
  async rotateKeys(options: { readonly forgetUnreadable: boolean }): Promise<Rotation> {
    return rotateKeys(this.#catalog, await this.#context.keys(), options);
  }

  /** Is it there, and whose is it? Keeps its health. A disabled one is left alone. */
  async checkRepository(row: BackupRepository): Promise<RepositoryState> {
    if (!row.enabled) return { row, readOnly: false, problem: undefined };
    return this.#look(row, async () => ({ health: 'healthy' }));
  }

  /** Measures one repository and keeps the numbers. An empty folder where a disk was mounted has room too: only the marker says that it is there. */
  refreshStorage(row: BackupRepository): Promise<RepositoryState> {
    return this.#look(row, async (repository) => storageFields(await repository.getStorageInfo(), isoTime(this.#context.clock.now())));
  }

  /** All at once: the slowest costs its time limit and delays no other. `due`: leaves those alone that did not answer a moment ago. */
  async refreshAll(options: { readonly due: boolean }): Promise<readonly RepositoryState[]> {
    const rows = await this.listRepositories();
    const { reachability } = this.#context;
    return Promise.all(
      rows.map((row) =>
        row.enabled && (!options.due || reachability.isDue(row.id))
          ? this.refreshStorage(row)
          : { row, readOnly: false, problem: undefined },
      ),
    );
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
    // In one: a repository that a policy still needs must not lose its backups before it is refused.
    await this.#catalog.transaction(async (unit) => {
      if (options.forget) await forgetBackups(unit, row.id);
      await deleteRepository(unit, row.id);
    });
  }

  /** The caller closes it. Throws REPOSITORY_OFFLINE, REPOSITORY_INVALID, SECRET_KEY_MISSING. */
  async openRepository(row: BackupRepository, logger: Logger): Promise<OpenedRepository> {
    try {
      const opened = { row, repository: await this.#reach(row, logger, async (repository) => repository) };
      await this.#keep(row, { health: 'healthy' });
      return opened;
    } catch (error) {
      if (tellsHealth(error)) await this.#keep(row, { health: healthAfter(error) });
      throw error;
    }
  }

  async #look(row: BackupRepository, measure: (repository: Repository) => Promise<Partial<BackupRepository>>): Promise<RepositoryState> {
    try {
      const { readOnly, found } = await this.#reach(row, silentLogger, async (repository) => {
        try {
          return { readOnly: repository.readOnly, found: await measure(repository) };
        } finally {
          await repository.close();
        }
      });
      return { row: await this.#keep(row, found), readOnly, problem: undefined };
    } catch (error) {
      if (!tellsHealth(error)) throw error;
      const kept = await this.#keep(row, { health: healthAfter(error), last_check_at: isoTime(this.#context.clock.now()) });
      return { row: kept, readOnly: false, problem: error.message };
    }
  }

  /** What touches the store is under the time limit, and nothing else: a slow database is not an offline repository. */
  async #reach<T>(row: BackupRepository, logger: Logger, use: (repository: Repository) => Promise<T>): Promise<T> {
    const context = this.#context;
    const { clock } = context;
    const installationId = await context.installationId();
    const config = await fullConfig(context, row);
    const run = async (): Promise<{ readonly repository: Repository; readonly result: T }> => {
      const store = await context.openStore(row.repository_type, config, { create: false });
      try {
        const repository = await openRepository({ store, clock, logger, repositoryId: row.id, installationId });
        return { repository, result: await use(repository) };
      } catch (error) {
        await store.close();
        throw error;
      }
    };
    const limit = await openLimitOf(row.repository_type);
    const { result } = await context.reachability.reach({
      id: row.id,
      name: row.name,
      limit,
      run,
      dispose: (late) => late.repository.close(),
    });
    return result;
  }

  /** Only what changed: opening a repository that is as it was writes nothing. */
  async #keep(row: BackupRepository, found: Partial<BackupRepository>): Promise<BackupRepository> {
    const known: Readonly<Record<string, unknown>> = row;
    if (Object.entries(found).every(([name, value]) => known[name] === value)) return row;
    await updateRow(this.#catalog, row.id, found);
    return { ...row, ...found };
  }
}

/** Troubles of the database, and bugs, say nothing about a repository. */
function tellsHealth(error: unknown): error is ChainkeepError {
  return isChainkeepError(error) && error.code !== 'CATALOG_FAILED' && error.code !== 'INTERNAL';
}

function healthAfter(error: unknown): BackupRepository['health'] {
  return isChainkeepError(error, 'REPOSITORY_OFFLINE') || isChainkeepError(error, 'MOUNT_FAILED') ? 'offline' : 'warning';
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
