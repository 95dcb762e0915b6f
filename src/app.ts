// The only place that wires rooms together: catalog, repositories, jobs. What it makes is the App of app-interface.ts.

import { dirname, join, resolve } from 'node:path';
import { embeddedDatabase, openDatabaseCare } from './app-database.ts';
import type * as view from './app-interface.ts';
import { openJobLog, removeOldJobsWhenDue } from './app-jobs.ts';
import { type LockParts, openClockCare, openHolds } from './app-locks.ts';
import { openPushes } from './app-pushes.ts';
import { backupDetails, chainView, vmView } from './app-views.ts';
import {
  type BackupFilter,
  type BackupJob,
  type BackupStatus,
  listDependents,
  resolveBackupJob,
  selectBackupJobs,
} from './catalog/backup-jobs.ts';
import { listBackups } from './catalog/backup-listing.ts';
import type { Catalog } from './catalog/catalog.ts';
import { listHolds } from './catalog/holds.ts';
import { listTrackedJobs } from './catalog/job-tracking.ts';
import { openCatalog } from './catalog/open-catalog.ts';
import { findOrphanedBackups } from './catalog/orphaned-backups.ts';
import { getVmContext, listVmContexts, updateVmContext } from './catalog/vm-contexts.ts';
import type { JobEnvironment } from './jobs/kinds/job-environment.ts';
import type { VerifyPlan, VerifyScope } from './jobs/kinds/verify.ts';
import { type Clock, systemClock } from './plumbing/clock.ts';
import { ChainkeepError, systemCode } from './plumbing/errors.ts';
import { silentLogger } from './plumbing/logger.ts';
import { makeFolder } from './plumbing/make-folder.ts';
import type { Sidecar } from './repository/sidecar-fields.ts';

const BACKUP_STATUSES: readonly BackupStatus[] = ['pending', 'running', 'completed', 'failed', 'cancelled'];

/** Opens the catalog of `home`, making both at first use, and settles what dead processes have left. */
export async function openApp(options: view.AppOptions): Promise<view.App> {
  try {
    makeFolder(options.home, 0o700);
  } catch (error) {
    throw new ChainkeepError('CONFIG_INVALID', `the home folder ${options.home} cannot be made: ${systemCode(error) ?? String(error)}`, {
      advice: 'choose another one with --home, or set CHAINKEEP_HOME',
      context: { home: options.home },
      cause: error,
    });
  }
  const catalog = await openCatalog({ url: databaseUrlOf(options), password: options.databasePassword?.reveal(), clock: systemClock });
  const app = new ChainkeepApp(options, catalog, systemClock);
  try {
    await app.recover();
    await removeOldJobsWhenDue(catalog);
  } catch (error) {
    await catalog.close();
    throw error;
  }
  return app;
}

/** Puts the copy in the place of the database, which nobody may have open: before any App. The copy's jobs are settled by `App.database`. */
export async function restoreDatabase(options: view.AppOptions, file: string, watch: view.JobWatch): Promise<view.RestoredDatabase> {
  const path = embeddedDatabase(databaseUrlOf(options), 'restore');
  makeFolder(dirname(path), 0o700);
  const { restoreDatabase: restore } = await import('./jobs/restore-database.ts');
  return { file: resolve(file), ...(await restore(path, resolve(file), systemClock, watch)) };
}

function databaseUrlOf({ home, databaseUrl }: view.AppOptions): string {
  return databaseUrl ?? `sqlite:${join(home, 'catalog.sqlite')}`;
}

class ChainkeepApp implements view.App {
  readonly #options: view.AppOptions;
  readonly #catalog: Catalog;
  readonly #clock: Clock;
  #environment: Promise<JobEnvironment> | undefined;

  constructor(options: view.AppOptions, catalog: Catalog, clock: Clock) {
    this.#options = options;
    this.#catalog = catalog;
    this.#clock = clock;
  }

  /** Cheap where nothing has died: one look into the job log, one at the backups. */
  async recover(): Promise<void> {
    const unended = await listTrackedJobs(this.#catalog, { statuses: ['pending', 'running'] });
    if (unended.length === 0 && (await findOrphanedBackups(this.#catalog)).length === 0) return;
    const { recoverDeadJobs } = await import('./jobs/recover.ts');
    await recoverDeadJobs(await this.#open());
  }

  async addRepository(input: view.AddRepositoryInput): Promise<view.RepositoryView> {
    return (await import('./app-repositories.ts')).addRepository(await this.#open(), input);
  }

  async updateRepository(nameOrId: string, changes: view.UpdateRepositoryInput): Promise<view.RepositoryView> {
    return (await import('./app-repositories.ts')).updateRepository(await this.#open(), nameOrId, changes);
  }

  async listRepositories(): Promise<readonly view.RepositoryView[]> {
    return (await import('./app-repositories.ts')).listRepositories(await this.#open());
  }

  async showRepository(nameOrId: string): Promise<view.RepositoryView> {
    return (await import('./app-repositories.ts')).showRepository(await this.#open(), nameOrId);
  }

  async storageOfRepositories(options: { readonly refresh: boolean }): Promise<readonly view.StorageView[]> {
    return (await import('./app-repositories.ts')).storageOfRepositories(await this.#open(), options.refresh);
  }

  async testRepository(nameOrId: string, options = { retention: false }): Promise<readonly view.SelfTestStep[]> {
    return (await this.#open()).repositories.testRepository(nameOrId, options);
  }

  async testPlace(input: view.TestPlaceInput): Promise<readonly view.SelfTestStep[]> {
    return (await this.#open()).repositories.testPlace(input.type, input);
  }

  async removeRepository(nameOrId: string, options: { readonly forget: boolean }): Promise<void> {
    return (await import('./app-repositories.ts')).removeRepository(await this.#open(), nameOrId, options.forget);
  }

  async rotateKey(options: { readonly forget_unreadable: boolean }): Promise<view.KeyRotation> {
    return (await import('./app-repositories.ts')).rotateKey(await this.#open(), options.forget_unreadable);
  }

  async rescanRepository(nameOrId: string, watch: view.JobWatch): Promise<view.RescanOutcome> {
    const environment = await this.#open();
    const row = await environment.repositories.getRepository(nameOrId);
    const { rescan } = await import('./jobs/kinds/rescan.ts');
    return rescan(environment, row, watch);
  }

  async protectRepository(nameOrId: string, watch: view.JobWatch): Promise<view.ProtectOutcome> {
    const environment = await this.#open();
    const row = await environment.repositories.getRepository(nameOrId);
    const { protectRepository } = await import('./jobs/kinds/protect.ts');
    return protectRepository(environment, row, watch);
  }

  async backup(input: view.BackupInput, watch: view.JobWatch): Promise<readonly view.BackupOutcome[]> {
    const { chooseRepository } = await import('./app-repositories.ts');
    const choice = await chooseRepository(await this.#open(), this.#options.home, input.repository);
    if (input.dry_run) {
      const { planBackupOnly } = await import('./jobs/kinds/backup-dry-run.ts');
      return planBackupOnly(await this.#open(), choice, input, watch);
    }
    const { backup } = await import('./jobs/kinds/backup.ts');
    return backup(await this.#open(), choice, input, watch);
  }

  async verify(input: view.VerifyInput, watch: view.JobWatch): Promise<view.VerifyOutcome> {
    const { verify } = await import('./jobs/kinds/verify.ts');
    return verify(await this.#open(), await this.#planVerify(input), input.quick, watch);
  }

  async restore(input: view.RestoreInput, watch: view.JobWatch): Promise<view.RestoreOutcome> {
    const { restore } = await import('./jobs/kinds/restore.ts');
    const backup = await this.#findBackup(input.backup, input.vm);
    this.#requireCompleted(backup);
    return restore(await this.#open(), backup, input, watch);
  }

  async exportBackup(input: view.ExportInput, watch: view.ExportWatch): Promise<view.ExportOutcome> {
    const { exportBackups } = await import('./jobs/kinds/export.ts');
    return exportBackups(await this.#open(), await this.#backupsToExport(input, watch), input, watch);
  }

  async #backupsToExport({ backup: reference, vm, at }: view.ExportInput, watch: view.JobWatch): Promise<readonly BackupJob[]> {
    if (reference === undefined) {
      if (vm === undefined || at === undefined) throw new ChainkeepError('USAGE', 'a restore point is named by its VM and a time');
      const { findRestorePoint } = await import('./jobs/kinds/restore-point.ts');
      return (await findRestorePoint(this.#catalog, await getVmContext(this.#catalog, vm), at, watch)).backups;
    }
    const backup = await this.#findBackup(reference, vm);
    this.#requireCompleted(backup);
    return [backup];
  }

  async deleteBackup(
    backup: string,
    options: { readonly vm?: string; readonly dry_run: boolean },
    watch: view.JobWatch,
  ): Promise<view.DeleteOutcome> {
    const { deleteBackup } = await import('./jobs/kinds/delete.ts');
    return deleteBackup(await this.#open(), await this.#findBackup(backup, options.vm), options.dry_run, watch);
  }

  async listBackups({ limit, after, ...filter }: view.BackupListFilter): Promise<readonly view.BackupView[]> {
    const page = {
      ...(limit !== undefined && { limit }),
      ...(after !== undefined && { after: await this.#findBackup(after, undefined) }),
    };
    return listBackups(this.#catalog, await this.#filterFor(filter), page);
  }

  async showBackup(backup: string, vm?: string): Promise<view.BackupDetails> {
    const row = await this.#findBackup(backup, vm);
    const [listed] = (await listBackups(this.#catalog, { vmContextId: row.vm_context_id, diskId: row.disk_id })).filter(
      (candidate) => candidate.backup_id === row.id,
    );
    if (!listed) throw new ChainkeepError('BACKUP_NOT_FOUND', `backup ${row.id} was deleted meanwhile`);
    const holds = (await listHolds(this.#catalog, [row.id])).filter(({ lifted_at }) => lifted_at === null);
    return backupDetails(listed, row, await this.#readSidecar(row), { dependents: await listDependents(this.#catalog, row.id), holds });
  }

  async listChains(filter: { readonly vm: string; readonly disk_id?: number }): Promise<readonly view.ChainView[]> {
    const { context_id: vmContextId } = await getVmContext(this.#catalog, filter.vm);
    const { chains } = await this.#open();
    return (await chains.listChains({ vmContextId, ...(filter.disk_id === undefined ? {} : { diskId: filter.disk_id }) })).map(chainView);
  }

  async listVms(): Promise<readonly view.VmView[]> {
    return (await listVmContexts(this.#catalog)).map(vmView);
  }

  async renameVm(vm: string, name: string): Promise<void> {
    const { context_id: id, vm_name: before } = await getVmContext(this.#catalog, vm);
    if (name.length === 0) throw new ChainkeepError('CONFIG_INVALID', 'the new name is empty', { advice: 'give a name' });
    const { runJob } = await import('./jobs/runner.ts');
    await runJob(await this.#open(), { jobType: 'vm', operation: `rename ${before} to ${name}`, contextId: id }, {}, (job) =>
      job.step('rename', () => updateVmContext(this.#catalog, id, { vm_name: name })),
    );
  }

  get database(): view.DatabaseCare {
    return openDatabaseCare(() => this.#open(), databaseUrlOf(this.#options));
  }

  get holds(): view.Holds {
    return openHolds(this.#lockParts());
  }

  get clock(): view.ClockCare {
    return openClockCare(this.#lockParts());
  }

  #lockParts(): LockParts {
    return { catalog: this.#catalog, open: () => this.#open(), findBackup: (reference, vm) => this.#findBackup(reference, vm) };
  }

  get pushes(): view.Pushes {
    return openPushes({ catalog: this.#catalog, home: this.#options.home, open: () => this.#open(), recover: () => this.recover() });
  }

  get jobs(): view.JobLog {
    return openJobLog(this.#catalog);
  }

  close(): Promise<void> {
    return this.#catalog.close();
  }

  /** What jobs and repositories need is loaded when it is needed: listings come from the catalog alone. */
  #open(): Promise<JobEnvironment> {
    this.#environment ??= this.#openEnvironment();
    return this.#environment;
  }

  async #openEnvironment(): Promise<JobEnvironment> {
    const { RepositoryManager } = await import('./control/repository-manager.ts');
    const { installationId } = await import('./control/installation.ts');
    const { currentOwner } = await import('./control/owner.ts');
    const catalog = this.#catalog;
    const { openKeyStore } = await import('./control/secret-keys.ts');
    const repositories = new RepositoryManager({
      catalog,
      clock: this.#clock,
      home: this.#options.home,
      installationId: () => installationId(catalog),
      keys: async () => openKeyStore({ ...this.#options, installationId: await installationId(catalog) }),
    });
    const owner = await currentOwner(catalog);
    const { openChainManager } = await import('./control/chain-manager.ts');
    return { catalog, clock: this.#clock, owner, repositories, chains: openChainManager(catalog, owner) };
  }

  async #filterFor(filter: { readonly vm?: string; readonly repository?: string; readonly status?: string }): Promise<BackupFilter> {
    const result: { vmContextId?: string; repositoryId?: string; statuses?: readonly BackupStatus[] } = {};
    if (filter.vm !== undefined) result.vmContextId = (await getVmContext(this.#catalog, filter.vm)).context_id;
    if (filter.repository !== undefined)
      result.repositoryId = (await (await this.#open()).repositories.getRepository(filter.repository)).id;
    if (filter.status !== undefined) result.statuses = [statusOf<BackupStatus>(filter.status, BACKUP_STATUSES)];
    return result;
  }

  async #findBackup(reference: string, vm: string | undefined): Promise<BackupJob> {
    const filter = vm === undefined ? {} : { vmContextId: (await getVmContext(this.#catalog, vm)).context_id };
    if (reference !== 'latest') return resolveBackupJob(this.#catalog, reference, filter);
    if (vm === undefined) {
      throw new ChainkeepError('USAGE', '"latest" needs a VM', { advice: 'name the VM with --vm' });
    }
    const completed = (await selectBackupJobs(this.#catalog, { ...filter, statuses: ['completed'] })).toSorted((a, b) =>
      a.id < b.id ? 1 : -1,
    );
    const [latest] = completed;
    if (!latest)
      throw new ChainkeepError('BACKUP_NOT_FOUND', `the VM ${vm} has no completed backup`, {
        advice: 'see what there is with: chainkeep list',
      });
    const disks = completed.filter((row) => row.restore_point_id === latest.restore_point_id).toSorted((a, b) => a.disk_id - b.disk_id);
    if (disks.length > 1) {
      const names = disks.map((row) => `disk ${row.disk_id}: ${row.id}`).join(', ');
      throw new ChainkeepError('BACKUP_AMBIGUOUS', `the latest restore point of ${vm} has ${disks.length} disks (${names})`, {
        advice: 'name the backup of one disk by its id',
        context: { restore_point_id: latest.restore_point_id ?? undefined, candidates: disks.map((row) => row.id) },
      });
    }
    return latest;
  }

  #requireCompleted(backup: BackupJob): void {
    if (backup.status === 'completed') return;
    throw new ChainkeepError('BACKUP_NOT_FOUND', `backup ${backup.id} is ${backup.status}: there is nothing to restore`, {
      advice: 'choose a completed one: chainkeep list --status completed',
      context: { backup_id: backup.id, status: backup.status },
    });
  }

  async #planVerify(input: view.VerifyInput): Promise<VerifyPlan> {
    const { repositories } = await this.#open();
    if (input.backup !== undefined) {
      const backup = await this.#findBackup(input.backup, input.vm);
      this.#requireCompleted(backup);
      const { id, vm_context_id: vmContextId, disk_id: diskId } = backup;
      const scope = { row: await repositories.getRepository(backup.repository_id), places: [{ vmContextId, diskId }], only: [id] };
      return { what: `backup ${id} of ${backup.vm_name}, disk ${diskId}`, scopes: [scope] };
    }
    if (input.vm !== undefined) {
      const { context_id: vmContextId, vm_name: name } = await getVmContext(this.#catalog, input.vm);
      return { what: `all backups of ${name}`, scopes: await this.#scopesOfVm(vmContextId) };
    }
    if (input.repository === undefined)
      throw new ChainkeepError('USAGE', 'nothing to verify was named', { advice: 'name a backup, --vm or --repo' });
    const row = await repositories.getRepository(input.repository);
    return { what: `repository ${row.name}`, scopes: [{ row }] };
  }

  async #scopesOfVm(vmContextId: string): Promise<VerifyScope[]> {
    const { repositories } = await this.#open();
    const rows = await selectBackupJobs(this.#catalog, { vmContextId, statuses: ['completed'] });
    const scopes: VerifyScope[] = [];
    for (const [repositoryId, backups] of Map.groupBy(rows, (row) => row.repository_id)) {
      const places = [...new Set(backups.map((row) => row.disk_id))].map((diskId) => ({ vmContextId, diskId }));
      scopes.push({ row: await repositories.getRepository(repositoryId), places });
    }
    return scopes;
  }

  async #readSidecar(row: BackupJob): Promise<Sidecar | undefined> {
    if (row.status !== 'completed') return undefined;
    const { repositories } = await this.#open();
    const { repository } = await repositories.openRepository(await repositories.getRepository(row.repository_id), silentLogger);
    try {
      return await repository.getBackup({ vmContextId: row.vm_context_id, diskId: row.disk_id }, row.id);
    } finally {
      await repository.close();
    }
  }
}

function statusOf<Status extends string>(text: string, statuses: readonly Status[]): Status {
  const found = statuses.find((status) => status === text);
  if (found !== undefined) return found;
  throw new ChainkeepError('CONFIG_INVALID', `"${text}" is no status`, { advice: `the statuses are ${statuses.join(', ')}` });
}
