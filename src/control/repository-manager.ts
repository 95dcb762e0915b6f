// Configured repositories: registers places, opens them, and knows which are there. Configuration is the catalog's, backups the repository's.
// One that is offline, slow or without its key is told by its health; it must not keep the others waiting.

import { sumStoredBytes } from '../catalog/backup-chains.ts';
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
import { recordSample } from '../catalog/storage-samples.ts';
import { type Clock, isoTime } from '../plumbing/clock.ts';
import { ChainkeepError, isChainkeepError } from '../plumbing/errors.ts';
import { type Logger, silentLogger } from '../plumbing/logger.ts';
import type { Repository } from '../repository/repository.ts';
import type { StoreCapacity } from '../store/blob-store.ts';
import type { GivenConfig } from '../store/parse-config.ts';
import { openStore } from '../store/registry.ts';
import type { SelfTestStep } from '../store/self-test.ts';
import type { StoreMetrics } from '../store/wrap/with-metrics.ts';
import type { Forecast } from './forecast.ts';
import { forecastStorage } from './forecast-storage.ts';
import { openReachability } from './reachability.ts';
import { refuseLockedRepository } from './refuse-locked-repository.ts';
import type { NewRepository } from './register-repository.ts';
import { fullConfig, openIn, openLimitOf, type RepositoryContext, refuseReadOnly, storageFields, timeAt } from './repository-context.ts';
import type { KeyStore } from './secret-keys.ts';
import { type Rotation, rotateKeys } from './secrets.ts';
import { openStoreWraps, type StoreUse, type StoreWraps } from './store-wraps.ts';
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
  /** Bytes written there through it so far. */
  written(): number;
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
  readonly #wraps: StoreWraps;

  constructor(options: RepositoryManagerOptions) {
    const { home, openStore: open = openStore } = options;
    this.#context = {
      ...options,
      openStore: home === undefined ? open : (type, config, how) => open(type, config, { ...how, home }),
      reachability: openReachability(options.clock, options.timeLimit ?? TIME_LIMIT_MS),
    };
    this.#catalog = options.catalog;
    this.#wraps = openStoreWraps(options.catalog);
  }

  /** What was done to each repository by this process, by its id. */
  metrics(): ReadonlyMap<string, StoreMetrics> {
    return this.#wraps.metrics();
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
  async testRepository(nameOrId: string, options: { readonly retention: boolean }): Promise<readonly SelfTestStep[]> {
    const row = await this.getRepository(nameOrId);
    const { repository } = await this.openRepository(row, silentLogger);
    await repository.close();
    refuseReadOnly(row, repository);
    const { testRepository } = await import('./test-repository.ts');
    return testRepository(this.#context, row, options);
  }

  /** The same for a place that is not registered; nothing remains there. */
  async testPlace(type: string, given: GivenConfig & { readonly retention?: boolean }): Promise<readonly SelfTestStep[]> {
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
  async refreshStorage(row: BackupRepository): Promise<RepositoryState> {
    const state = await this.#look(row, async (repository) => this.#measured(row, await repository.getStorageInfo()));
    if (state.problem === undefined) await this.#sample(state.row);
    return state;
  }

  /** The same with one that is open, after a job has changed what lies there. What cannot be measured is said in the log: the job's work is done. */
  async measureStorage({ row, repository }: OpenedRepository, logger: Logger): Promise<void> {
    try {
      await this.#sample(await this.#keep(row, await this.#measured(row, await repository.getStorageInfo())));
    } catch (error) {
      logger.log('warn', `how full ${row.name} is could not be measured`, { error: String(error) });
    }
  }

  /** How it has grown so far, and when it will be full. */
  forecastStorage(row: BackupRepository): Promise<Forecast> {
    return forecastStorage(this.#catalog, row);
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
    if (count > 0 && options.forget) await refuseLockedRepository(this.#catalog, row, await timeAt(this.#catalog));
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

  /** The caller closes it. With a signal, what is used of it ends at once when that fires. Throws REPOSITORY_OFFLINE, REPOSITORY_INVALID, SECRET_KEY_MISSING. */
  async openRepository(row: BackupRepository, logger: Logger, signal?: AbortSignal): Promise<OpenedRepository> {
    try {
      const use = { logger, ...(signal && { signal }) };
      const opened = await this.#reach(row, use, async (repository, written) => ({ row, repository, written }));
      await this.#keep(row, { health: 'healthy' });
      return opened;
    } catch (error) {
      if (tellsHealth(error)) await this.#keep(row, { health: healthAfter(error), last_check_at: isoTime(this.#context.clock.now()) });
      throw error;
    }
  }

  #now(): string {
    return isoTime(this.#context.clock.now());
  }

  /** Where the store does not tell, what is used there is what our own backups take. */
  async #measured({ id }: BackupRepository, capacity: StoreCapacity | undefined): Promise<Partial<BackupRepository>> {
    const own = capacity ?? { totalBytes: 0, usedBytes: await sumStoredBytes(this.#catalog, id), availableBytes: 0 };
    return storageFields(own, this.#now());
  }

  async #sample({ id, total_size_bytes, used_size_bytes, available_size_bytes }: BackupRepository): Promise<void> {
    const bytes = { total_bytes: total_size_bytes, used_bytes: used_size_bytes, available_bytes: available_size_bytes };
    await recordSample(this.#catalog, { repository_id: id, ...bytes });
  }

  async #look(row: BackupRepository, measure: (repository: Repository) => Promise<Partial<BackupRepository>>): Promise<RepositoryState> {
    try {
      const { readOnly, found } = await this.#reach(row, { logger: silentLogger }, async (repository) => {
        try {
          return { readOnly: repository.readOnly, found: await measure(repository) };
        } finally {
          await repository.close();
        }
      });
      return { row: await this.#keep(row, found), readOnly, problem: undefined };
    } catch (error) {
      if (!tellsHealth(error)) throw error;
      const kept = await this.#keep(row, { health: healthAfter(error), last_check_at: this.#now() });
      return { row: kept, readOnly: false, problem: error.message };
    }
  }

  /** What touches the store is under the time limit, and nothing else: a slow database is not an offline repository. */
  async #reach<T>(row: BackupRepository, use: StoreUse, act: (repository: Repository, written: () => number) => Promise<T>): Promise<T> {
    const context = this.#context;
    await context.installationId(); // asked for before the time limit begins
    const config = await fullConfig(context, row);
    const run = async (): Promise<{ readonly repository: Repository; readonly result: T }> => {
      const inner = await context.openStore(row.repository_type, config, { create: false });
      const { store, written } = this.#wraps.wrap(row, inner, use);
      try {
        const repository = await openIn(context, row, store, use.logger);
        return { repository, result: await act(repository, written) };
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
