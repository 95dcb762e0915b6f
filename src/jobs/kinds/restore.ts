// The restore job: a restore point to a new file, a device or an NBD export. Every cluster is checked on the way.

import type { JobWatch, RestoreInput, RestoreOutcome } from '../../app-interface.ts';
import type { BackupJob } from '../../catalog/backup-jobs.ts';
import { withReading } from '../../control/reading.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { silentLogger } from '../../plumbing/logger.ts';
import type { OpenedBackup } from '../../repository/open-backup.ts';
import { restoreBackup } from '../../repository/restore-backup.ts';
import { startWorkersAhead } from '../../transfer/idle-workers.ts';
import { runJob } from '../runner.ts';
import { type JobEnvironment, readingOf } from './job-environment.ts';
import { findKnownChain, openKnown } from './known-chain.ts';
import { chooseTarget } from './restore-target.ts';

export async function restore(
  environment: JobEnvironment,
  backup: BackupJob,
  input: RestoreInput,
  watch: JobWatch,
): Promise<RestoreOutcome> {
  const target = await chooseTarget(environment, input);
  if (!input.dry_run) startWorkersAhead();
  const row = await environment.repositories.getRepository(backup.repository_id);
  const chain = await findKnownChain(environment, backup);
  const began = environment.clock.monotonic();
  if (input.dry_run) {
    const { repository } = await environment.repositories.openRepository(row, silentLogger, watch.signal);
    try {
      const opened = await openKnown(repository, backup, chain);
      await opened.close();
      return outcome(null, opened, target.name, { bytesRead: 0, bytesWritten: 0 }, 0);
    } finally {
      await repository.close();
    }
  }
  const spec = {
    jobType: 'restore',
    operation: `restore of ${backup.vm_name}, disk ${backup.disk_id}, ${backup.id}, to ${target.name}`,
    contextId: backup.vm_context_id,
    metadata: { repository_id: row.id, backup_id: backup.id, target: target.name },
  };
  const { jobId, result } = await runJob(environment, spec, watch, (job) =>
    withReading(environment.catalog, readingOf(environment, row.id, chain.ids, job), async () => {
      const { repository } = await environment.repositories.openRepository(row, job.logger, job.signal);
      try {
        const opened = await job.step('open', () => openKnown(repository, backup, chain));
        try {
          const bytes = await job.step('transfer', async () => {
            // A kill leaves the partial file; whoever settles this job removes it.
            const onPartial = (path: string) => job.setMetadata({ partial: path });
            const writer = await target.open(opened.reader.size, onPartial, job.signal);
            const run = { signal: job.signal, onProgress: (done: number, total: number) => job.progress('restore', done, total) };
            return restoreBackup(opened, writer, input.format, run).catch((error: unknown) => {
              throw target.inPlace ? unusable(target.name, error) : error;
            });
          });
          return { opened, bytes };
        } finally {
          await opened.close();
        }
      } finally {
        await repository.close();
      }
    }),
  );
  return outcome(jobId, result.opened, target.name, result.bytes, Math.round(environment.clock.monotonic() - began));
}

/** A file that was not finished is gone; a device or an export has lost what it held and does not have the disk yet. */
function unusable(target: string, error: unknown): unknown {
  if (!(error instanceof ChainkeepError) || error.code === 'TARGET_FAILED') return error;
  return new ChainkeepError(error.code, `${error.message}; ${target} is now unusable`, {
    advice: 'its former content is gone and the restore is incomplete: restore again',
    context: error.context,
    cause: error,
  });
}

function outcome(
  jobId: string | null,
  opened: OpenedBackup,
  target: string,
  bytes: { readonly bytesRead: number; readonly bytesWritten: number },
  duration: number,
): RestoreOutcome {
  return {
    job_id: jobId,
    backup_id: opened.sidecar.backup_id,
    target,
    total_bytes: opened.sidecar.total_bytes,
    bytes_written: bytes.bytesWritten,
    bytes_read: bytes.bytesRead,
    duration_ms: duration,
    chain: opened.chain.map((sidecar) => sidecar.backup_id),
  };
}
