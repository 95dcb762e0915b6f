// The delete job: removes a backup nothing needs, first from the repository, then from the catalog.

import type { DeleteOutcome, JobWatch } from '../../app-interface.ts';
import { type BackupJob, selectBackupJobs } from '../../catalog/backup-jobs.ts';
import { deleteBackupJob, uncommitBackup } from '../../catalog/complete-backup.ts';
import { withLease } from '../../control/lease.ts';
import { waitForReaders } from '../../control/reading.ts';
import { ChainkeepError, isChainkeepError } from '../../plumbing/errors.ts';
import { silentLogger } from '../../plumbing/logger.ts';
import type { DeletePlan } from '../../repository/delete-backup.ts';
import type { Repository } from '../../repository/repository.ts';
import { runJob } from '../runner.ts';
import type { JobEnvironment } from './job-environment.ts';

// A verify of a large disk takes hours: who deletes should hear of it, not wait for it.
const READERS_MS = 30_000;

export async function deleteBackup(
  environment: JobEnvironment,
  backup: BackupJob,
  dryRun: boolean,
  watch: JobWatch,
): Promise<DeleteOutcome> {
  const { catalog, owner } = environment;
  const place = { vmContextId: backup.vm_context_id, diskId: backup.disk_id };
  const row = await environment.repositories.getRepository(backup.repository_id);
  if (dryRun) {
    const { repository } = await environment.repositories.openRepository(row, silentLogger);
    try {
      const plan = await planFor(repository, backup);
      return { job_id: null, backup_id: backup.id, freed_bytes: plan.freedBytes };
    } finally {
      await repository.close();
    }
  }
  const spec = {
    jobType: 'delete',
    operation: `delete ${backup.id} of ${backup.vm_name}, disk ${backup.disk_id}`,
    contextId: backup.vm_context_id,
    metadata: { repository_id: row.id, vm_context_id: backup.vm_context_id, disk_id: backup.disk_id, backup_id: backup.id },
  };
  const { jobId, result } = await runJob(environment, spec, watch, async (job) => {
    const { repository } = await environment.repositories.openRepository(row, job.logger);
    try {
      const lease = { repositoryId: row.id, ...place, jobId: job.jobId, owner, logger: job.logger };
      return await withLease(catalog, lease, async (guard) => {
        const plan = await job.step('plan', async () => {
          await refuseMissing(environment, repository, backup);
          return planFor(repository, backup);
        });
        const wait = { owner, limit: READERS_MS, signal: job.signal, logger: job.logger };
        await job.step('readers', () => waitForReaders(catalog, backup.id, wait));
        // Whoever takes the lease over from here on finishes the delete before he builds on this disk (recover.ts); who took it before is seen
        // by the guard, right before the sidecar goes.
        await job.setMetadata({ delete_begun: true });
        await job.step('repository', () =>
          repository.runDelete(plan, guard).catch(async (error: unknown) => {
            // Why the delete failed must reach the user, also when the store cannot even be looked at any more.
            await settleHalfDeleted(environment, repository, backup, error).catch((second: unknown) =>
              job.logger.log('warn', 'what the delete has left could not be settled; verify names it', { error: second }),
            );
            throw error;
          }),
        );
        await job.step('catalog', () => deleteBackupJob(catalog, backup.id));
        return plan.freedBytes;
      });
    } finally {
      await repository.close();
    }
  });
  return { job_id: jobId, backup_id: backup.id, freed_bytes: result };
}

/** A delete that failed behind the sidecar: the catalog must not go on calling it a backup, and the next run removes what is left. */
async function settleHalfDeleted({ catalog }: JobEnvironment, repository: Repository, backup: BackupJob, error: unknown): Promise<void> {
  const { sidecars, damaged } = await repository.readDisk({ vmContextId: backup.vm_context_id, diskId: backup.disk_id });
  if (damaged.has(backup.id) || sidecars.some((sidecar) => sidecar.backup_id === backup.id)) return;
  await uncommitBackup(catalog, backup.id, `its delete failed on the way: ${error instanceof Error ? error.message : String(error)}`);
}

/** A younger backup that the catalog calls completed and the repository has lost may need this one. */
async function refuseMissing({ catalog }: JobEnvironment, repository: Repository, backup: BackupJob): Promise<void> {
  const place = { vmContextId: backup.vm_context_id, diskId: backup.disk_id };
  const rows = await selectBackupJobs(catalog, { ...place, repositoryId: backup.repository_id, statuses: ['completed'] });
  const { sidecars, damaged } = await repository.readDisk(place);
  const there = new Set([...sidecars.map((sidecar) => sidecar.backup_id), ...damaged.keys()]);
  const lost = rows.find((row) => row.id > backup.id && !there.has(row.id));
  if (!lost) return;
  throw new ChainkeepError('CHAIN_CORRUPT', `backup ${lost.id} of the same disk is missing in the repository, and may need ${backup.id}`, {
    advice: 'bring its files back from a copy, or delete the missing one first',
    context: { backup_id: backup.id, missing_backup_id: lost.id },
  });
}

/** A row of a run that failed has no files: there is nothing to plan but the row. */
async function planFor(repository: Repository, backup: BackupJob): Promise<DeletePlan> {
  const place = { vmContextId: backup.vm_context_id, diskId: backup.disk_id };
  try {
    return await repository.planDelete(place, backup.id);
  } catch (error) {
    if (!isChainkeepError(error, 'BACKUP_NOT_FOUND') || backup.status === 'running') throw error;
    return { place, backupId: backup.id, files: [], freedBytes: 0 };
  }
}
