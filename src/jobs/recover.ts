// Settles what processes that died have left: the repository is looked at first, for a valid sidecar means completed.

import { type BackupJob, findBackupJob, selectBackupJobs, updateBackupJob } from '../catalog/backup-jobs.ts';
import type { BackupRepository } from '../catalog/backup-repositories.ts';
import { completeBackup, deleteBackupJob } from '../catalog/complete-backup.ts';
import { listHolds } from '../catalog/holds.ts';
import { listTrackedJobs, type TrackedJob } from '../catalog/job-tracking.ts';
import { insertLogEvent } from '../catalog/log-events.ts';
import { backupOfDiskKey, findJobOfBackup, findOrphanedBackups } from '../catalog/orphaned-backups.ts';
import { withLease } from '../control/lease.ts';
import { removePartialFile } from '../disk/file-writer.ts';
import { removeStaleSocket } from '../nbd/server/listen-address.ts';
import { isoTime } from '../plumbing/clock.ts';
import { ChainkeepError, isChainkeepError } from '../plumbing/errors.ts';
import { type Logger, silentLogger } from '../plumbing/logger.ts';
import type { Guard } from '../repository/guard.ts';
import type { DiskPlace } from '../repository/layout.ts';
import type { Repository } from '../repository/repository.ts';
import { backupRow } from './kinds/backup-row.ts';
import { fateOf, type JobEnvironment } from './kinds/job-environment.ts';
import { applyHolds } from './kinds/rescan-holds.ts';
import { type isNotRunning, type SettledBackup, type Settlement, settleDeadJobs } from './settle.ts';

/**
 * Cheap where nothing died. Jobs whose repository is offline stay as they are; `onNotice` hears of them.
 * `isDead`: instead of what is certain of the processes that run them.
 */
export async function recoverDeadJobs(
  environment: JobEnvironment,
  onNotice?: (message: string) => void,
  isDead?: typeof isNotRunning,
): Promise<void> {
  for (const settled of await settleDeadJobs(environment, (job) => decide(environment, job), isDead)) {
    if ('error' in settled) onNotice?.(`job ${settled.jobId}, whose process died, cannot be settled yet: ${messageOf(settled.error)}`);
  }
  await settleOrphans(environment, onNotice);
}

/** Settles the backups that say "running" though their job has ended: the database could not take what became of them, and could again a moment later. */
async function settleOrphans(environment: JobEnvironment, onNotice?: (message: string) => void): Promise<void> {
  const orphans = await findOrphanedBackups(environment.catalog);
  const byDisk = Map.groupBy(orphans, (row) => `${row.repository_id}/${row.vm_context_id}/${row.disk_id}`);
  for (const [first] of byDisk.values()) {
    if (!first) continue;
    try {
      await settleOrphansOfDisk(environment, first);
    } catch (error) {
      // Whoever writes the disk settles it; a repository that is offline may come back.
      if (!isChainkeepError(error, 'BACKUP_IN_PROGRESS')) onNotice?.(`backup ${first.id} cannot be settled yet: ${messageOf(error)}`);
    }
  }
}

async function settleOrphansOfDisk(environment: JobEnvironment, orphan: BackupJob): Promise<void> {
  const { catalog, owner } = environment;
  const place = { vmContextId: orphan.vm_context_id, diskId: orphan.disk_id };
  await withRepository(environment, orphan.repository_id, async (repository, row) => {
    const lease = { repositoryId: row.id, ...place, jobId: orphan.id, owner, logger: silentLogger };
    const settled = await withLease(catalog, lease, () => settleDisk(environment, repository, row, place));
    for (const { id, status } of settled) {
      const job = await findJobOfBackup(catalog, { id, vm_context_id: orphan.vm_context_id });
      const message = `backup ${id} was settled after its job: ${status}`;
      if (job) await insertLogEvent(catalog, job.id, { level: 'warn', message, stepId: null });
    }
  });
}

async function decide(environment: JobEnvironment, job: TrackedJob): Promise<Settlement> {
  const socket = textOf(job, 'socket');
  if (socket !== undefined) await removeStaleSocket(socket);
  try {
    if (job.job_type === 'backup') return await decideBackup(environment, job);
    if (job.job_type === 'delete') return await decideDelete(environment, job);
    if (job.job_type === 'hold') return await decideHold(environment, job);
    return await decideOther(job);
  } catch (error) {
    // Offline it may come back, and the job waits for it; a repository that was removed from the catalog does not.
    if (isChainkeepError(error, 'REPOSITORY_NOT_FOUND')) return failed('the process died, and its repository is not registered any more');
    throw error;
  }
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
      const id = textOf(job, backupOfDiskKey(diskId));
      if (id !== undefined && (await findBackupJob(environment.catalog, id))) backups.push(await settleOne(repository, row, place, id));
      await cleanUp(environment, repository, { place, jobId: job.id });
    }
    const all = backups.length === disks.length && backups.every((backup) => backup.status === 'completed');
    return all ? { status: 'completed', message: 'recovered', backups } : { ...failed('the process died during the backup'), backups };
  });
}

async function settleOne(repository: Repository, row: BackupRepository, place: DiskPlace, id: string): Promise<SettledBackup> {
  try {
    const sidecar = await repository.getBackup(place, id);
    return { status: 'completed', backup: backupRow(sidecar, row) };
  } catch (error) {
    if (!isChainkeepError(error, 'BACKUP_NOT_FOUND') && !isChainkeepError(error, 'SIDECAR_INVALID')) throw error;
    return { status: 'failed', id, message: 'the process died before the backup was committed' };
  }
}

/**
 * Ends the backups of a disk that say "running" though nobody writes it: their job ended when the catalog did not answer. Only its one writer,
 * who holds the lease, may call it.
 */
export async function settleDisk(
  environment: JobEnvironment,
  repository: Repository,
  row: BackupRepository,
  place: DiskPlace,
): Promise<readonly { readonly id: string; readonly status: SettledBackup['status'] }[]> {
  const { catalog, clock } = environment;
  const unended = await selectBackupJobs(catalog, { ...place, repositoryId: row.id, statuses: ['pending', 'running'] });
  const all: { readonly id: string; readonly status: SettledBackup['status'] }[] = [];
  for (const { id } of unended) {
    const settled = await settleOne(repository, row, place, id);
    if (settled.status === 'completed') await completeBackup(catalog, settled.backup);
    else await updateBackupJob(catalog, id, { status: 'failed', error_message: settled.message, completed_at: isoTime(clock.now()) });
    all.push({ id, status: settled.status });
  }
  return all;
}

/**
 * Finishes the deletes on this disk that had begun when their process lost its lease: stopped, it may go on at any time, and would take away what
 * was built on meanwhile. Only the one writer, who holds the lease, may call it, before he chooses a parent.
 */
export async function finishDeletes(environment: JobEnvironment, repository: Repository, place: DiskPlace, guard: Guard): Promise<void> {
  for (const { job_type: type, metadata } of await listTrackedJobs(environment.catalog, { statuses: ['running'] })) {
    const { repository_id, vm_context_id, disk_id, backup_id: id } = metadata ?? {};
    const here = repository_id === repository.id && vm_context_id === place.vmContextId && disk_id === place.diskId;
    if (type !== 'delete' || metadata?.delete_begun !== true || !here || typeof id !== 'string') continue;
    const { sidecars, damaged } = await repository.readDisk(place);
    if (damaged.has(id) || sidecars.some((sidecar) => sidecar.backup_id === id)) {
      await finishDelete(environment, repository, place, id, guard);
    }
  }
}

/** One that was locked or held since stays: its delete finds that out too, when it goes on. */
async function finishDelete(
  environment: JobEnvironment,
  repository: Repository,
  place: DiskPlace,
  id: string,
  guard: Guard,
): Promise<void> {
  const row = await findBackupJob(environment.catalog, id);
  try {
    const plan = row ? await environment.chains.planDelete(repository, row) : await repository.planDelete(place, id);
    await repository.runDelete(plan, guard);
  } catch (error) {
    if (isChainkeepError(error) && PROTECTED.has(error.code)) return;
    throw error;
  }
  await deleteBackupJob(environment.catalog, id);
}

const PROTECTED: ReadonlySet<string> = new Set(['IMMUTABLE_RETENTION_ACTIVE', 'HOLD_ACTIVE', 'PROTECTION_INVALID', 'CLOCK_JUMPED']);

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
  const named = backupOf(job);
  if (!named) return failed('the process died before it had begun');
  const { repositoryId, place, backupId } = named;
  return withRepository(environment, repositoryId, async (repository) => {
    const folder = await repository.readDisk(place);
    const still = folder.damaged.has(backupId) || folder.sidecars.some((sidecar) => sidecar.backup_id === backupId);
    if (still) return failed('the process died before anything was deleted');
    await cleanUp(environment, repository, { place, jobId: job.id, deleted: backupId });
    await deleteBackupJob(environment.catalog, backupId);
    return { status: 'completed', message: 'recovered: the delete was finished' };
  });
}

/** The file of a hold counts from the moment it is there: the catalog has to know it, or nobody could lift it. */
async function decideHold(environment: JobEnvironment, job: TrackedJob): Promise<Settlement> {
  const named = backupOf(job);
  if (!named) return failed('the process died before it had begun');
  const { repositoryId, place, backupId } = named;
  return withRepository(environment, repositoryId, async (repository) => {
    const protection = (await repository.locks.read(place)).get(backupId);
    const { changed } = await environment.catalog.transaction(async (unit) => {
      const row = await findBackupJob(unit, backupId);
      return applyHolds(unit, { backupId, sidecar: undefined, protection }, row, await listHolds(unit, [backupId]));
    });
    return changed ? { status: 'completed', message: 'recovered: the catalog knows what the file says' } : failed('the process died');
  });
}

async function decideOther(job: TrackedJob): Promise<Settlement> {
  const partial = textOf(job, 'partial');
  if (partial !== undefined) {
    await removePartialFile(partial);
    return failed('the process died; what it had not finished of its target file was removed');
  }
  return failed(job.job_type === 'restore' ? 'the process died; a device that it was writing to is incomplete' : 'the process died');
}

async function withRepository<T>(
  environment: JobEnvironment,
  repositoryId: string,
  use: (repository: Repository, row: BackupRepository) => Promise<T>,
): Promise<T> {
  const row = await environment.repositories.getRepository(repositoryId);
  if (wasOffline(row, environment.clock.now())) throw stillOffline(row);
  const { repository } = await environment.repositories.openRepository(row, silentLogger);
  try {
    return await use(repository, row);
  } finally {
    await repository.close();
  }
}

/** Milliseconds. One that hangs costs its time limit: not at the start of each of many commands. */
const LEFT_ALONE = 60_000;

function wasOffline({ health, last_check_at: at }: BackupRepository, now: number): boolean {
  return health === 'offline' && at !== null && Math.abs(now - Date.parse(at)) < LEFT_ALONE;
}

function stillOffline({ name, last_check_at: at }: BackupRepository): ChainkeepError {
  return new ChainkeepError('REPOSITORY_OFFLINE', `the repository ${name} did not answer at ${at}`, {
    advice: 'what is left of its jobs is settled when it answers again',
    context: { repository: name },
    retryable: true,
  });
}

/** The backup that a job is about. */
function backupOf(job: TrackedJob): { readonly repositoryId: string; readonly place: DiskPlace; readonly backupId: string } | undefined {
  const repositoryId = textOf(job, 'repository_id');
  const vmContextId = textOf(job, 'vm_context_id');
  const backupId = textOf(job, 'backup_id');
  const diskId = job.metadata?.disk_id;
  if (repositoryId === undefined || vmContextId === undefined || backupId === undefined || typeof diskId !== 'number') return undefined;
  return { repositoryId, place: { vmContextId, diskId }, backupId };
}

function textOf(job: TrackedJob, name: string): string | undefined {
  const value = job.metadata?.[name];
  return typeof value === 'string' ? value : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function failed(message: string): Settlement {
  return { status: 'failed', message };
}
