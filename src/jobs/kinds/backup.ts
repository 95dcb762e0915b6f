// The backup job: all disks of one run as one restore point. Each disk is leased, planned, run, committed, and entered in the catalog.

import type { BackupInput, BackupOutcome, JobWatch } from '../../app-interface.ts';
import { type BackupJob, findBackupJob, selectBackupJobs, updateBackupJob } from '../../catalog/backup-jobs.ts';
import type { BackupRepository } from '../../catalog/backup-repositories.ts';
import { backupOfDiskKey } from '../../catalog/orphaned-backups.ts';
import { raiseProtectedUntil } from '../../catalog/protected-backups.ts';
import { checkServerSettings } from '../../catalog/server-settings.ts';
import { findOrMakeVmContext, findVmContext, type NewVmContext, removeUnusedVmContext, type VmContext } from '../../catalog/vm-contexts.ts';
import type { OpenedRepository } from '../../control/repository-manager.ts';
import type { Space } from '../../control/space.ts';
import { isoTime, newId, timeOfId } from '../../plumbing/clock.ts';
import { ChainkeepError, isChainkeepError } from '../../plumbing/errors.ts';
import type { BackupPlan, BackupRequest, CreatedBackup } from '../../repository/create-backup.ts';
import type { Guard } from '../../repository/guard.ts';
import type { DiskPlace } from '../../repository/layout.ts';
import { ownLock } from '../../repository/lock-rules.ts';
import type { Repository } from '../../repository/repository.ts';
import { startWorkersAhead } from '../../transfer/idle-workers.ts';
import type { JobContext } from '../job.ts';
import { finishDeletes, settleDisk } from '../recover.ts';
import { runJob } from '../runner.ts';
import { requestFor } from './backup-request.ts';
import { reserveAll, reserveFor, withRoom } from './backup-room.ts';
import { backupRow } from './backup-row.ts';
import { checkVmInput, type Disk, isOfVm, openDisks } from './backup-sources.ts';
import { checkChangeId } from './change-id.ts';
import { fateOf, type JobEnvironment } from './job-environment.ts';
import { keptMarks } from './kept-marks.ts';
import { parentMarkOf } from './parent-mark.ts';
import { findSweptAt, isoDates, protectNow, protectWhenDue, tellingFailure } from './protect.ts';

/** The repository a backup goes to, or how it is made: not before the sources are known to be good. */
export interface RepositoryChoice {
  readonly name: string;
  readonly row: BackupRepository | undefined;
  readonly make: () => Promise<BackupRepository>;
}

/** Where the disks of a run come from: they are open while `use` runs, and closed after it. */
export interface DiskSupply {
  /** For the job log: `, pushed`. */
  readonly words: string;
  /** Tells others what kind of backup job this is. */
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly withDisks: <T>(job: JobContext, use: (disks: readonly Disk[], input: BackupInput) => Promise<T>) => Promise<T>;
}

/** Throws CONFIG_INVALID and VM_AMBIGUOUS before there is a job; whatever goes wrong later stands in the job log. */
export async function backup(
  environment: JobEnvironment,
  choice: RepositoryChoice,
  input: BackupInput,
  watch: JobWatch,
  supply: DiskSupply = sourcesOf(environment, choice, input),
): Promise<readonly BackupOutcome[]> {
  checkInput(input);
  startWorkersAhead();
  const vm = await findVmContext(environment.catalog, input.vm);
  const diskIds = input.disks.map((disk) => disk.disk_id);
  const spec = {
    jobType: 'backup',
    operation: `backup of ${vm?.vm_name ?? input.vm}, ${isOfVm(input) ? 'all disks' : diskIds.map((id) => `disk ${id}`).join(', ')}${supply.words}, to ${choice.name}`,
    metadata: { disks: diskIds, ...supply.metadata },
    ...(vm && { contextId: vm.context_id }),
  };
  const { result } = await runJob(environment, spec, watch, async (job) => {
    for (const { message, setting } of await checkServerSettings(environment.catalog)) job.logger.log('warn', message, { setting });
    return supply.withDisks(job, async (disks, wanted) => {
      const row = choice.row ?? (await job.step('make the repository', choice.make));
      return withVm(environment, input.vm, job, (context) => runRestorePoint({ environment, row, input: wanted, context }, disks, job));
    });
  });
  return result;
}

/** The sources that the input names. */
function sourcesOf(environment: JobEnvironment, choice: RepositoryChoice, input: BackupInput): DiskSupply {
  return {
    words: '',
    metadata: {},
    withDisks: async (job, use) => {
      const onNotice = (notice: string): void => job.logger.log('warn', notice);
      const parentMark = parentMarkOf(environment, choice, input);
      const options = { onNotice, isPlanOnly: false, parentMark, signal: job.signal };
      const { disks, close } = await job.step('open the sources', () => openDisks(input, options));
      try {
        if (isOfVm(input)) await enterVmDisks(disks, job);
        return await use(disks, input);
      } finally {
        await close();
      }
    },
  };
}

/** Whoever settles the job after a crash looks at these disks. */
async function enterVmDisks(disks: readonly Disk[], job: JobContext): Promise<void> {
  await job.setMetadata({ disks: disks.map(({ diskId }) => diskId) });
  for (const { diskId, path, source } of disks) job.logger.log('info', `disk ${diskId} is ${path}, ${source.reader.size} bytes`);
}

/** A VM that this run made goes again when nothing was begun for it, by whatever job: a wrong option must not leave a name behind. */
async function withVm<T>(environment: JobEnvironment, name: string, job: JobContext, use: (context: VmContext) => Promise<T>): Promise<T> {
  const made = newVm(environment, name);
  const context = await job.setContext((unit) => findOrMakeVmContext(unit, made));
  try {
    return await use(context);
  } catch (error) {
    if (context.context_id === made.context_id) await removeUnusedVmContext(environment.catalog, made.context_id, job.jobId);
    throw error;
  }
}

async function runRestorePoint(begun: Omit<Run, 'restorePointId'>, disks: readonly Disk[], job: JobContext): Promise<BackupOutcome[]> {
  const { row, context } = begun;
  const restorePointId = newId(begun.environment.clock);
  await job.setMetadata({ repository_id: row.id, vm_context_id: context.context_id, restore_point_id: restorePointId });
  return runDisks({ ...begun, restorePointId }, disks, job);
}

/** What a backup says of the VM it belongs to. */
export type VmIdentity = Pick<VmContext, 'context_id' | 'vm_name' | 'external_id'>;

export interface Run {
  readonly environment: JobEnvironment;
  readonly row: BackupRepository;
  readonly input: BackupInput;
  readonly context: VmIdentity;
  readonly restorePointId: string;
}

async function runDisks(run: Run, disks: readonly Disk[], job: JobContext): Promise<BackupOutcome[]> {
  const { repositories } = run.environment;
  const opened = await repositories.openRepository(run.row, job.logger, job.signal);
  const outcomes: BackupOutcome[] = [];
  const unprotected: ChainkeepError[] = [];
  try {
    await withRoom(run, opened, job, async (space) => {
      await reserveAll(run, { opened, space }, disks, job.signal);
      for (const disk of disks) outcomes.push(await runDisk(run, { opened, space, unprotected }, disk, job));
    });
    await protectWhenDue({ environment: run.environment, row: run.row, repository: opened.repository, job });
    await repositories.measureStorage(opened, job.logger);
  } catch (error) {
    const kept = outcomes.map((outcome) => `disk ${outcome.disk_id} is kept as ${outcome.backup_id}`).join(', ');
    if (kept)
      job.logger.log('warn', `the restore point is not complete: ${kept}`, { backups: outcomes.map((outcome) => outcome.backup_id) });
    throw error;
  } finally {
    await opened.repository.close();
  }
  const [first] = unprotected;
  if (first) throw first;
  return outcomes;
}

interface Target {
  readonly opened: OpenedRepository;
  readonly space: Space;
  /** Why backups that are complete are not protected: the disks behind them are backed up all the same. */
  readonly unprotected: ChainkeepError[];
}

async function runDisk(run: Run, { opened, space, unprotected }: Target, disk: Disk, job: JobContext): Promise<BackupOutcome> {
  const { environment, row, context } = run;
  const { chains } = environment;
  const { repository } = opened;
  const place = { vmContextId: context.context_id, diskId: disk.diskId };
  return chains.withWriter(row.id, place, job, async (guard) => {
    const began = environment.clock.monotonic();
    await settleDisk(environment, repository, row, place);
    await finishDeletes(environment, repository, place, guard);
    const request = await requestFor(run, repository, disk);
    const plan = await job.step(`disk ${disk.diskId}: plan`, async () => {
      const removed = await repository.removeRubbish(place, guard, (id) => fateOf(environment, id));
      if (removed.length > 0) job.logger.log('info', `removed ${removed.length} files of a run that never committed`, { files: removed });
      const planned = await repository.planBackup(request, job.signal);
      await reserveFor(run, disk, planned, space);
      return planned;
    });
    say(run, plan, job);
    sayRenamed(disk, plan, job);
    await enterAncestors(run, plan);
    await enterPlan(run, disk, plan, job);
    const before = opened.written();
    space.follow(disk.diskId, () => opened.written() - before);
    const created = await job.step(`disk ${disk.diskId}: transfer and commit`, () =>
      transfer(run, repository, { request, plan, guard }, job),
    );
    await space.release(disk.diskId);
    await job.step(`disk ${disk.diskId}: catalog`, async () => {
      await chains.completeBackup(backupRow(created.sidecar, row));
      await raiseProtectedUntil(environment.catalog, isoDates(created.locked));
    });
    await tellKept(disk, repository, place, job);
    if (created.unprotected) {
      job.logger.log('error', `backup ${created.sidecar.backup_id} is complete, and not protected: ${created.unprotected.message}`);
      unprotected.push(created.unprotected);
    }
    await protectRecovered(run, repository, place, { guard, job });
    return outcomeOf(created, run, job.jobId, Math.round(environment.clock.monotonic() - began), plan.changes.reason);
  });
}

/** The backup is complete, whatever comes of this: what is not tidied up now is when the next one is kept. */
async function tellKept({ source, diskId }: Disk, repository: Repository, place: DiskPlace, job: JobContext): Promise<void> {
  if (!source.kept) return;
  try {
    await source.kept(keptMarks((await repository.readDisk(place)).sidecars));
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    job.logger.log('warn', `disk ${diskId}: bitmaps that are not needed any more could not be removed: ${message}`);
  }
}

/** Backups of this disk that were committed by a run that died before it could lock them. */
async function protectRecovered(
  { environment, row }: Run,
  repository: Repository,
  place: DiskPlace,
  { guard, job }: { readonly guard: Guard; readonly job: JobContext },
): Promise<void> {
  const { settings } = repository.locks;
  if (!settings) return;
  await tellingFailure(job, async () => {
    const rows = await selectBackupJobs(environment.catalog, { ...place, repositoryId: row.id, statuses: ['completed'] });
    const { now } = await repository.locks.time();
    const isUnlocked = ({ protected_until, completed_at, backup_type }: BackupJob): boolean =>
      protected_until === null && completed_at !== null && (ownLock({ backup_type, completed_at }, settings, now) ?? 0) > now;
    if (rows.some(isUnlocked)) await protectNow({ environment, row, repository, job }, place, guard);
  });
}

interface Prepared {
  readonly request: BackupRequest;
  readonly plan: BackupPlan;
  readonly guard: Guard;
}

async function transfer(run: Run, repository: Repository, { request, plan, guard }: Prepared, job: JobContext): Promise<CreatedBackup> {
  const { catalog, clock } = run.environment;
  try {
    return await repository.runBackup(request, plan, {
      guard,
      signal: job.signal,
      sweptAt: await findSweptAt({ environment: run.environment, row: run.row, repository }),
      onProgress: (done, total) => job.progress(`disk ${request.place.diskId}`, done, total),
    });
  } catch (error) {
    const status = isChainkeepError(error, 'CANCELLED') ? 'cancelled' : 'failed';
    const message = error instanceof Error ? error.message : String(error);
    await updateBackupJob(catalog, plan.backupId, { status, error_message: message, completed_at: isoTime(clock.now()) });
    throw error;
  }
}

/** An explicit wish that the chain did not allow, or a chain that takes no child, is something a person should see. */
function say({ input }: Run, plan: BackupPlan, job: JobContext): void {
  const level = input.type !== 'full' && plan.type === 'full' && plan.reason.includes('new chain') ? 'warn' : 'info';
  job.logger.log(level, `${plan.type} backup ${plan.backupId}: ${plan.reason}`, { backup_id: plan.backupId });
  job.logger.log(plan.changes.isMissed ? 'warn' : 'info', plan.changes.reason, { backup_id: plan.backupId });
  const memory = memoryNotice(plan);
  if (memory !== undefined) job.logger.log('warn', memory, { backup_id: plan.backupId, memory_bytes: plan.uploadMemory });
}

/** Disks of a machine are numbered in its own order, and that changes when one is added or taken away. */
function sayRenamed({ diskId, nameInVm }: Disk, { chain }: BackupPlan, job: JobContext): void {
  const before = chain[0]?.metadata.disk_name;
  if (nameInVm === undefined || typeof before !== 'string' || before === nameInVm) return;
  job.logger.log('warn', `disk ${diskId} was ${before} in the last backup and is ${nameInVm} now: were disks added or removed?`);
}

/** The store takes only so many parts, so those of a very large image are large. */
export function memoryNotice({ uploadMemory, mostBytes }: Pick<BackupPlan, 'uploadMemory' | 'mostBytes'>): string | undefined {
  if (uploadMemory === undefined) return undefined;
  const mib = (bytes: number): string => `${Math.ceil(bytes / 2 ** 20)} MiB`;
  return `an image of up to ${mib(mostBytes)} is sent in parts that need ${mib(uploadMemory)} of memory`;
}

async function enterPlan(
  { environment, row, input, context, restorePointId }: Run,
  disk: Disk,
  plan: BackupPlan,
  job: JobContext,
): Promise<void> {
  const parent = plan.chain[0];
  // First the job knows the backup, then there is one: whoever settles the job after a crash finds every row it left.
  await job.setMetadata({ [backupOfDiskKey(disk.diskId)]: plan.backupId });
  const begun = {
    id: plan.backupId,
    vm_context_id: context.context_id,
    vm_name: context.vm_name,
    disk_id: disk.diskId,
    repository_id: row.id,
    repository_path: `vms/${context.context_id}/disk-${disk.diskId}/${plan.backupId}.qcow2`,
    total_bytes: disk.source.reader.size,
    compression_enabled: input.compression !== 'none',
    restore_point_id: restorePointId,
    created_at: isoTime(plan.startedAt),
    started_at: isoTime(plan.startedAt),
  };
  if (plan.type === 'full' || !parent) await environment.chains.createChain(begun);
  else await environment.chains.addToChain(begun, plan.type, parent.backup_id);
}

/** Backups under the new one that the catalog lost, or has no good word for, are in the repository all the same: their rows come back first. */
async function enterAncestors({ environment, row }: Run, plan: BackupPlan): Promise<void> {
  for (const sidecar of plan.chain.toReversed()) {
    const known = await findBackupJob(environment.catalog, sidecar.backup_id);
    if (known?.status !== 'completed') await environment.chains.completeBackup(backupRow(sidecar, row));
  }
}

function outcomeOf(
  { sidecar, bytesWritten, clustersWritten }: CreatedBackup,
  { row }: Run,
  jobId: string,
  duration: number,
  changes: string,
): BackupOutcome {
  return {
    backup_id: sidecar.backup_id,
    backup_type: sidecar.backup_type,
    parent_backup_id: sidecar.parent_backup_id,
    vm_context_id: sidecar.vm_context_id,
    disk_id: sidecar.disk_id,
    repository: row.name,
    total_bytes: sidecar.total_bytes,
    size_bytes: sidecar.size_bytes,
    bytes_read: sidecar.bytes_read,
    bytes_written: bytesWritten,
    clusters_written: clustersWritten,
    duration_ms: duration,
    job_id: jobId,
    restore_point_id: sidecar.restore_point_id,
    changes,
  };
}

export function newVm({ clock }: JobEnvironment, name: string): NewVmContext & VmIdentity {
  // The id begins with the time; a rescan that has nothing but the id finds the same.
  const id = newId(clock);
  const at = isoTime(timeOfId(id));
  return { context_id: id, vm_name: name, external_id: null, created_at: at, updated_at: at };
}

// What the catalog can hold; a backup must not be committed and then refused there.
const LONGEST_VM_NAME = 255;

export function checkInput(input: BackupInput): void {
  if (input.vm.length === 0) throw new ChainkeepError('CONFIG_INVALID', 'the name of the VM is empty', { advice: 'give a name with --vm' });
  checkVmName(input.vm);
  for (const id of [input.change_id, input.changed_extents?.since_change_id, input.bitmap]) if (id !== undefined) checkChangeId(id);
  checkVmInput(input);
  if (input.changed_extents && input.disks.length > 1) {
    throw new ChainkeepError('CONFIG_INVALID', 'a list of changed extents is of one disk, and several were given', {
      advice: 'back up each disk by itself, with its own list',
    });
  }
  if (input.disks.length === 0) throw new ChainkeepError('CONFIG_INVALID', 'no disk was given', { advice: 'name a source' });
  const ids = input.disks.map((disk) => disk.disk_id);
  if (new Set(ids).size !== ids.length) {
    throw new ChainkeepError('CONFIG_INVALID', 'two sources have the same disk number', {
      advice: 'number the disks: --disk 0=A --disk 1=B',
    });
  }
}

function checkVmName(name: string): void {
  const length = Array.from(name).length;
  if (length <= LONGEST_VM_NAME) return;
  throw new ChainkeepError('CONFIG_INVALID', `the name of the VM has ${length} characters, at most ${LONGEST_VM_NAME} are possible`, {
    advice: 'choose a shorter one',
  });
}
