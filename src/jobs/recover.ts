// Settles what processes that died have left: the repository is looked at first, for a valid sidecar means completed.

import { findBackupJob } from '../catalog/backup-jobs.ts';
import { deleteBackupJob } from '../catalog/complete-backup.ts';
import { listTrackedJobs, type TrackedJob } from '../catalog/job-tracking.ts';
import { withLease } from '../control/lease.ts';
import { removePartialFile } from '../disk/file-writer.ts';
import { isChainkeepError } from '../plumbing/errors.ts';
import { type Logger, silentLogger } from '../plumbing/logger.ts';
import type { DiskPlace } from '../repository/layout.ts';
import type { Repository } from '../repository/repository.ts';
import { backupRow } from './kinds/backup-row.ts';
import { fateOf, type JobEnvironment } from './kinds/job-environment.ts';
import { type SettledBackup, type Settlement, settleDeadJobs } from './settle.ts';

/** Cheap where nothing died. Jobs whose repository is offline stay as they are; `onNotice` hears of them. */
export async function recoverDeadJobs(environment: JobEnvironment, onNotice?: (message: string) => void): Promise<void> {
  if ((await listTrackedJobs(environment.catalog, { statuses: ['pending', 'running'] })).length === 0) return;
  for (const settled of await settleDeadJobs(environment, (job) => decide(environment, job))) {
    if ('error' in settled) {
      const message = settled.error instanceof Error ? settled.error.message : String(settled.error);
      onNotice?.(`job ${settled.jobId}, whose process died, cannot be settled yet: ${message}`);
    }
  }
}

function decide(environment: JobEnvironment, job: TrackedJob): Promise<Settlement> {
  if (job.job_type === 'backup') return decideBackup(environment, job);
  if (job.job_type === 'delete') return decideDelete(environment, job);
  return decideOther(job);
}

async function decideBackup(environment: JobEnvironment, job: TrackedJob): Promise<Settlement> {
  const vmContextId = textOf(job, 'vm_context_id');
  const repositoryId = textOf(job, 'repository_id');
  const disks = Array.isArray(job.metadata?.disks) ? job.metadata.disks.filter((disk) => typeof disk === 'number') : [];
  if (vmContextId === undefined || repositoryId === undefined) return failed('the process died before it had begun');
  return withRepository(environment, repositoryId, async (repository, row) => {
    const backups: SettledBackup[] = [];
    for (const diskId of disks) {
      const place = { vmContextId, diskId };
      const id = textOf(job, `backup_id_of_disk_${diskId}`);
      if (id !== undefined && (await findBackupJob(environment.catalog, id))) backups.push(await settleOne(repository, row, place, id));
      await cleanUp(environment, repository, { place, jobId: job.id });
    }
    const all = backups.length === disks.length && backups.every((backup) => backup.status === 'completed');
    return all ? { status: 'completed', message: 'recovered', backups } : { ...failed('the process died during the backup'), backups };
  });
}

async function settleOne(
  repository: Repository,
  row: Parameters<typeof backupRow>[1],
  place: DiskPlace,
  id: string,
): Promise<SettledBackup> {
  try {
    const sidecar = await repository.getBackup(place, id);
    return { status: 'completed', backup: backupRow(sidecar, row) };
  } catch (error) {
    if (!isChainkeepError(error, 'BACKUP_NOT_FOUND') && !isChainkeepError(error, 'SIDECAR_INVALID')) throw error;
    return { status: 'failed', id, message: 'the process died before the backup was committed' };
  }
}

interface Leftovers {
  readonly place: DiskPlace;
  readonly jobId: string;
  /** A backup whose delete had begun: its row still says completed. */
  readonly deleted?: string;
}

/** A dead run's lease is taken over at once, and its files go. A disk that somebody else writes meanwhile is theirs to clean. */
async function cleanUp(environment: JobEnvironment, repository: Repository, { place, jobId, deleted }: Leftovers): Promise<void> {
  const { catalog, owner } = environment;
  if (repository.readOnly) return;
  const logger: Logger = silentLogger;
  try {
    await withLease(catalog, { repositoryId: repository.id, ...place, jobId, owner, logger }, (guard) =>
      repository.removeRubbish(place, guard, async (id) => (id === deleted ? 'dead' : fateOf(environment, id))),
    );
  } catch (error) {
    if (!isChainkeepError(error, 'BACKUP_IN_PROGRESS')) throw error;
  }
}

/** The sidecar went first: without it the backup is gone and the rest follows; with it nothing has happened yet. */
async function decideDelete(environment: JobEnvironment, job: TrackedJob): Promise<Settlement> {
  const repositoryId = textOf(job, 'repository_id');
  const vmContextId = textOf(job, 'vm_context_id');
  const backupId = textOf(job, 'backup_id');
  const diskId = job.metadata?.disk_id;
  if (repositoryId === undefined || vmContextId === undefined || backupId === undefined || typeof diskId !== 'number') {
    return failed('the process died before it had begun');
  }
  const place = { vmContextId, diskId };
  return withRepository(environment, repositoryId, async (repository) => {
    const folder = await repository.readDisk(place);
    const still = folder.damaged.has(backupId) || folder.sidecars.some((sidecar) => sidecar.backup_id === backupId);
    if (still) return failed('the process died before anything was deleted');
    await cleanUp(environment, repository, { place, jobId: job.id, deleted: backupId });
    await deleteBackupJob(environment.catalog, backupId);
    return { status: 'completed', message: 'recovered: the delete was finished' };
  });
}

async function decideOther(job: TrackedJob): Promise<Settlement> {
  const partial = textOf(job, 'partial');
  if (partial === undefined) return failed('the process died');
  await removePartialFile(partial);
  return failed('the process died; its unfinished target file was removed');
}

async function withRepository<T>(
  environment: JobEnvironment,
  repositoryId: string,
  use: (repository: Repository, row: Parameters<typeof backupRow>[1]) => Promise<T>,
): Promise<T> {
  const row = await environment.repositories.getRepository(repositoryId);
  const { repository } = await environment.repositories.openRepository(row, silentLogger);
  try {
    return await use(repository, row);
  } finally {
    await repository.close();
  }
}

function textOf(job: TrackedJob, name: string): string | undefined {
  const value = job.metadata?.[name];
  return typeof value === 'string' ? value : undefined;
}

function failed(message: string): Settlement {
  return { status: 'failed', message };
}
