// The protect job: looks at everything in a repository that is locked or held, does what is due, and says what somebody took off. Runs with a backup
// once a day too. It must not shorten anything, and takes the lease of a disk only where there is something to do.

import type { JobWatch, ProtectOutcome } from '../../app-interface.ts';
import { type BackupRepository, updateRepository } from '../../catalog/backup-repositories.ts';
import { raiseProtectedUntil } from '../../catalog/protected-backups.ts';
import { findSetting, putSetting } from '../../catalog/settings.ts';
import { refuseReadOnly } from '../../control/repository-context.ts';
import { isoTime } from '../../plumbing/clock.ts';
import { type ChainkeepError, type ErrorCode, isChainkeepError, throwIfCancelled } from '../../plumbing/errors.ts';
import type { Guard } from '../../repository/guard.ts';
import type { DiskPlace } from '../../repository/layout.ts';
import { DAY_MS } from '../../repository/lock-rules.ts';
import type { ProtectionPlan } from '../../repository/look-at-protection.ts';
import type { Repository } from '../../repository/repository.ts';
import { NOTHING_DONE, type ProtectionOutcome } from '../../repository/run-protection.ts';
import type { JobContext } from '../job.ts';
import { runJob } from '../runner.ts';
import type { JobEnvironment } from './job-environment.ts';

export async function protectRepository(environment: JobEnvironment, row: BackupRepository, watch: JobWatch): Promise<ProtectOutcome> {
  const spec = { jobType: 'protect', operation: `protect repository ${row.name}`, metadata: { repository_id: row.id } };
  const { jobId, result } = await runJob(environment, spec, watch, async (job) => {
    const { repository } = await environment.repositories.openRepository(row, job.logger, job.signal);
    try {
      refuseReadOnly(row, repository);
      return await job.step('protect', () => sweepRepository({ environment, row, repository, job }));
    } finally {
      await repository.close();
    }
  });
  const { retention, retentionMark } = result.capabilities;
  const { disks, busy, locked, released, restored, failures } = result;
  return {
    job_id: jobId,
    repository: row.name,
    repository_id: row.id,
    retention,
    retention_mark: retentionMark ?? null,
    disks,
    busy,
    locked,
    protected: result.protected,
    restored,
    released,
    failures: failures.map(({ code, message }) => ({ code, message })),
  };
}

export interface ProtectRun {
  readonly environment: JobEnvironment;
  readonly row: BackupRepository;
  readonly repository: Repository;
  readonly job: JobContext;
}

interface SweptRepository extends ProtectionOutcome {
  readonly disks: number;
  /** Disks that somebody else writes at this moment: he protects what he makes. */
  readonly busy: number;
  readonly capabilities: Repository['capabilities'];
}

async function sweepRepository(run: ProtectRun): Promise<SweptRepository> {
  const { environment, repository, job, row } = run;
  await keepSettings(run);
  const time = await repository.locks.time();
  if (time.problem !== undefined) job.logger.log('warn', `nothing expires: ${time.problem}`);
  const sweptAt = await findSweptAt(run);
  let total = NOTHING_DONE;
  let busy = 0;
  const places = await repository.listDisks();
  for (const [index, place] of places.entries()) {
    throwIfCancelled(job.signal);
    const done = await protectDisk(run, place, sweptAt);
    if (done === 'busy') busy++;
    else total = sum(total, done);
    job.progress('protect', index + 1, places.length);
  }
  const isComplete = busy === 0 && total.failures.length === 0;
  if (isComplete && time.problem === undefined)
    await environment.catalog.transaction((unit) =>
      putSetting(unit, settingOf(row), { swept_at: time.now, under: circumstances(repository) }),
    );
  return { ...total, disks: places.length, busy, capabilities: repository.capabilities };
}

/** With a backup: everything of the repository once a day. Whatever fails is told and is not the backup's fault. */
export async function protectWhenDue(run: ProtectRun): Promise<void> {
  const { repository, job } = run;
  await tellingFailure(job, async () => {
    if (!repository.locks.settings || repository.readOnly) return;
    const sweptAt = await findSweptAt(run);
    if (sweptAt !== undefined && (await repository.locks.time()).now < sweptAt + DAY_MS) return;
    await job.step('protect the repository', () => sweepRepository(run));
  });
}

/** For a look behind work that is done: a failure of it is told in the log, and does not undo that work. */
export async function tellingFailure({ logger }: JobContext, look: () => Promise<unknown>): Promise<void> {
  try {
    await look();
  } catch (error) {
    if (isChainkeepError(error, 'CANCELLED') || isChainkeepError(error, 'JOB_LOST')) throw error;
    logger.log('error', `the protection could not be looked at: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** One disk, under its lease where something is due. `busy`: somebody else has it. */
async function protectDisk(run: ProtectRun, place: DiskPlace, sweptAt: number | undefined): Promise<ProtectionOutcome | 'busy'> {
  const { repository, environment, row, job } = run;
  try {
    const first = await repository.locks.look(place, { sweptAt });
    if (first.steps.length === 0) {
      await keepDates(run, first);
      return NOTHING_DONE;
    }
    // What was seen without the lease may have gone: all is looked at once more.
    return await environment.chains.withWriter(row.id, place, job, (guard) => protectAsWriter(run, place, guard, sweptAt));
  } catch (error) {
    if (isChainkeepError(error, 'BACKUP_IN_PROGRESS')) return 'busy';
    if (!isOfOneDisk(error)) throw error;
    const failed = { ...NOTHING_DONE, failures: [error] };
    report(job, failed);
    return failed;
  }
}

const NOT_OF_ONE_DISK: readonly ErrorCode[] = [
  'CANCELLED',
  'JOB_LOST',
  'REPOSITORY_OFFLINE',
  'REPOSITORY_FOREIGN',
  'MOUNT_FAILED',
  'CATALOG_FAILED',
  'INTERNAL',
];

/** The disks behind it are protected all the same. */
function isOfOneDisk(error: unknown): error is ChainkeepError {
  return isChainkeepError(error) && !NOT_OF_ONE_DISK.includes(error.code);
}

/** The same for somebody who has the lease already, between two looks at everything. */
export async function protectNow(run: ProtectRun, place: DiskPlace, guard: Guard): Promise<void> {
  await protectAsWriter(run, place, guard, await findSweptAt(run));
}

async function protectAsWriter(run: ProtectRun, place: DiskPlace, guard: Guard, sweptAt: number | undefined): Promise<ProtectionOutcome> {
  const { repository, job } = run;
  const plan = await repository.locks.look(place, { sweptAt });
  const done = await repository.locks.run(plan, guard);
  await keepDates(run, plan);
  report(job, done);
  return done;
}

async function keepDates({ environment }: ProtectRun, { dates }: ProtectionPlan): Promise<void> {
  await raiseProtectedUntil(environment.catalog, isoDates(dates));
}

export function isoDates(dates: ReadonlyMap<string, number>): ReadonlyMap<string, string> {
  return new Map([...dates].map(([id, until]) => [id, isoTime(until)]));
}

function report({ logger }: JobContext, { failures, locked, protected: count, released }: ProtectionOutcome): void {
  for (const failure of failures) logger.log('error', `not protected: ${failure.message}`, { code: failure.code, ...failure.context });
  if (locked + count + released > 0) logger.log('info', 'protection', { locked, protected: count, released });
}

function sum(one: ProtectionOutcome, other: ProtectionOutcome): ProtectionOutcome {
  return {
    locked: one.locked + other.locked,
    protected: one.protected + other.protected,
    restored: [...one.restored, ...other.restored],
    released: one.released + other.released,
    failures: [...one.failures, ...other.failures],
  };
}

/** Marker and catalog are made to ask for the same: the stronger settings of both. */
async function keepSettings({ environment, row, repository, job }: ProtectRun): Promise<void> {
  const { settings } = repository.locks;
  if (!settings) return;
  if (await repository.locks.replaceSettings(settings))
    job.logger.log('warn', 'the marker had weaker settings of immutability, and has those of the catalog now');
  const known = JSON.stringify({ days: row.min_retention_days, ...row.immutable_config }, Object.keys(settings).concat('days').sort());
  const wanted = JSON.stringify({ days: settings.min_retention_days, ...settings }, Object.keys(settings).concat('days').sort());
  if (known === wanted) return;
  job.logger.log('warn', 'the catalog had weaker settings of immutability, and has those of the marker now');
  const fields = { is_immutable: true, immutable_config: { ...settings }, min_retention_days: settings.min_retention_days };
  await updateRepository(environment.catalog, row.id, fields);
}

/** When everything was protected; undefined where settings or rights were others then, so that what is not protected was perhaps not due. */
export async function findSweptAt({ environment, row, repository }: Omit<ProtectRun, 'job'>): Promise<number | undefined> {
  const setting = await findSetting(environment.catalog, settingOf(row));
  return typeof setting?.swept_at === 'number' && setting.under === circumstances(repository) ? setting.swept_at : undefined;
}

function circumstances({ locks, capabilities }: Repository): string {
  return JSON.stringify([locks.settings ?? null, capabilities.retention, capabilities.retentionMark ?? null]);
}

function settingOf({ id }: BackupRepository): string {
  return `protection of ${id}`;
}
