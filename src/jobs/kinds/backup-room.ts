// Room for the backups of a run: estimated, reserved before a byte of a source is read, given back as it is written.
// It must not decide what fits: control/space.ts does.

import { selectBackupJobs } from '../../catalog/backup-jobs.ts';
import { type BackupEstimate, ESTIMATE_HISTORY, estimateBackup } from '../../control/estimate-backup.ts';
import type { OpenedRepository } from '../../control/repository-manager.ts';
import { type Space, withSpace } from '../../control/space.ts';
import { isChainkeepError, throwIfCancelled } from '../../plumbing/errors.ts';
import type { BackupPlan } from '../../repository/create-backup.ts';
import type { DiskPlace } from '../../repository/layout.ts';
import type { JobContext } from '../job.ts';
import type { Run } from './backup.ts';
import { requestFor } from './backup-request.ts';
import type { Disk } from './backup-sources.ts';
import type { JobEnvironment } from './job-environment.ts';

/** Backups of a disk that are looked at to find the last ones of a type. */
const LOOK_BACK = 10 * ESTIMATE_HISTORY;

export function withRoom<T>(run: Run, { repository }: OpenedRepository, job: JobContext, work: (space: Space) => Promise<T>): Promise<T> {
  const { environment, row } = run;
  const { jobId, logger } = job;
  const wanted = { repository: row, jobId, owner: environment.owner, logger, measure: () => repository.getStorageInfo() };
  return withSpace(environment.catalog, wanted, work);
}

/** A restore point of several disks is refused as a whole, not when its first disks are there: all of them reserve before the first one begins. */
export async function reserveAll(
  run: Run,
  { opened: { repository }, space }: { readonly opened: OpenedRepository; readonly space: Space },
  disks: readonly Disk[],
  signal: AbortSignal,
): Promise<void> {
  if (disks.length < 2) return;
  for (const disk of disks) {
    let plan: BackupPlan;
    try {
      plan = await repository.planBackup(await requestFor(run, repository, disk), signal);
    } catch (error) {
      throwIfCancelled(signal);
      if (!isChainkeepError(error)) throw error;
      continue; // what is wrong with this disk, its own plan says, when its leftovers are settled and it is this run's to write
    }
    await reserveFor(run, disk, plan, space);
  }
}

export async function reserveFor(run: Run, { diskId }: Disk, plan: BackupPlan, space: Space): Promise<void> {
  const place = { vmContextId: run.context.context_id, diskId };
  await space.reserve(diskId, await estimateOf(run.environment, run.row.id, place, plan));
}

export async function estimateOf(
  { catalog }: JobEnvironment,
  repositoryId: string,
  place: DiskPlace,
  { type, mostStoredBytes: mostBytes, chain }: BackupPlan,
): Promise<BackupEstimate> {
  const rows = type === 'full' ? [] : await selectBackupJobs(catalog, { ...place, repositoryId, statuses: ['completed'] }, LOOK_BACK);
  const history = rows.filter((row) => row.backup_type === type).map((row) => row.size_bytes);
  return estimateBackup({ type, mostBytes, history, fullBytes: chain.at(-1)?.size_bytes ?? 0 });
}
