// The delete job: removes a backup nothing needs, first from the repository, then from the catalog.

import type { DeleteOutcome, JobWatch } from '../../app-interface.ts';
import type { BackupJob } from '../../catalog/backup-jobs.ts';
import { deleteBackupJob, uncommitBackup } from '../../catalog/complete-backup.ts';
import { silentLogger } from '../../plumbing/logger.ts';
import type { Repository } from '../../repository/repository.ts';
import type { JobContext } from '../job.ts';
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
  const { chains } = environment;
  const place = { vmContextId: backup.vm_context_id, diskId: backup.disk_id };
  const row = await environment.repositories.getRepository(backup.repository_id);
  if (dryRun) {
    const { repository } = await environment.repositories.openRepository(row, silentLogger);
    try {
      const plan = await chains.planDelete(repository, backup);
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
    const opened = await environment.repositories.openRepository(row, job.logger, job.signal);
    const { repository } = opened;
    try {
      const freed = await chains.withWriter(row.id, place, job, async (guard) => {
        const plan = await job.step('plan', () => chains.planDelete(repository, backup));
        await job.step('readers', () => chains.waitForReaders(backup.id, { limit: READERS_MS, signal: job.signal, logger: job.logger }));
        // Whoever takes the lease over from here on finishes the delete before he builds on this disk (recover.ts); who took it before is seen
        // by the guard, right before the sidecar goes.
        await job.setMetadata({ delete_begun: true });
        await deleteOnBothSides(environment, { repository, backup, job }, () => repository.runDelete(plan, guard));
        return plan.freedBytes;
      });
      await environment.repositories.measureStorage(opened, job.logger);
      return freed;
    } finally {
      await repository.close();
    }
  });
  return { job_id: jobId, backup_id: backup.id, freed_bytes: result };
}

interface Deleting {
  readonly repository: Repository;
  readonly backup: BackupJob;
  readonly job: JobContext;
}

/** The catalog must not go on calling it a backup when the repository has none any more: where it cannot be told so, the job does not end. */
async function deleteOnBothSides(environment: JobEnvironment, deleting: Deleting, deleteFiles: () => Promise<void>): Promise<void> {
  const { backup, job } = deleting;
  const { catalog } = environment;
  let filesAreGone = false;
  try {
    await job.step('repository', deleteFiles);
    filesAreGone = true;
    await job.step('catalog', () => deleteBackupJob(catalog, backup.id));
  } catch (error) {
    try {
      if (filesAreGone) await deleteBackupJob(catalog, backup.id);
      else await settleHalfDeleted(environment, deleting, error);
    } catch (second) {
      // Why the delete failed must reach the user, also when the store cannot even be looked at any more.
      job.logger.log('warn', 'what the delete has left could not be settled yet; the next command does', { error: String(second) });
      job.leaveUnended();
    }
    throw error;
  }
}

/** A delete that failed behind the sidecar: the next run removes what is left. */
async function settleHalfDeleted({ catalog }: JobEnvironment, { repository, backup }: Deleting, error: unknown): Promise<void> {
  const { sidecars, damaged } = await repository.readDisk({ vmContextId: backup.vm_context_id, diskId: backup.disk_id });
  if (damaged.has(backup.id) || sidecars.some((sidecar) => sidecar.backup_id === backup.id)) return;
  await uncommitBackup(catalog, backup.id, `its delete failed on the way: ${error instanceof Error ? error.message : String(error)}`);
}
