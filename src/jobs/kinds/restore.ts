// The restore job: a restore point to a new file or a device. Every cluster is checked on the way.

import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { JobWatch, RestoreInput, RestoreOutcome } from '../../app-interface.ts';
import type { BackupJob } from '../../catalog/backup-jobs.ts';
import { openDeviceWriter } from '../../disk/device-writer.ts';
import type { DiskWriter } from '../../disk/disk-writer.ts';
import { createFileWriter, targetError } from '../../disk/file-writer.ts';
import { ChainkeepError, systemCode } from '../../plumbing/errors.ts';
import { silentLogger } from '../../plumbing/logger.ts';
import type { OpenedBackup } from '../../repository/open-backup.ts';
import { restoreBackup } from '../../repository/restore-backup.ts';
import { startWorkersAhead } from '../../transfer/idle-workers.ts';
import type { JobContext } from '../job.ts';
import { runJob } from '../runner.ts';
import type { JobEnvironment } from './job-environment.ts';

type TargetKind = 'new file' | 'existing file' | 'device';

export async function restore(environment: JobEnvironment, backup: BackupJob, input: RestoreInput, watch: JobWatch): Promise<RestoreOutcome> {
  const target = resolve(input.target);
  const kind = inspectTarget(input.target);
  refuseTarget(kind, target, input);
  if (!input.dry_run) startWorkersAhead();
  const row = await environment.repositories.getRepository(backup.repository_id);
  const place = { vmContextId: backup.vm_context_id, diskId: backup.disk_id };
  const began = environment.clock.monotonic();
  if (input.dry_run) {
    const { repository } = await environment.repositories.openRepository(row, silentLogger);
    const opened = await repository.openBackup(place, backup.id);
    await opened.close();
    await repository.close();
    return outcome(null, opened, target, { bytesRead: 0, bytesWritten: 0 }, 0);
  }
  const spec = {
    jobType: 'restore',
    operation: `restore of ${backup.vm_name}, disk ${backup.disk_id}, ${backup.id}, to ${target}`,
    contextId: backup.vm_context_id,
    metadata: { repository_id: row.id, backup_id: backup.id, target },
  };
  const { jobId, result } = await runJob(environment, spec, watch, async (job) => {
    const { repository } = await environment.repositories.openRepository(row, job.logger);
    try {
      const opened = await job.step('open', () => repository.openBackup(place, backup.id));
      try {
        const bytes = await job.step('transfer', async () => {
          const writer = await openTarget(kind, target, opened, input, job);
          return restoreBackup(opened, writer, input.format, {
            signal: job.signal,
            onProgress: (done, total) => job.progress('restore', done, total),
          });
        });
        return { opened, bytes };
      } finally {
        await opened.close();
      }
    } finally {
      await repository.close();
    }
  });
  return outcome(jobId, result.opened, target, result.bytes, Math.round(environment.clock.monotonic() - began));
}

function openTarget(kind: TargetKind, target: string, opened: OpenedBackup, input: RestoreInput, job: JobContext): Promise<DiskWriter> {
  if (kind === 'device') {
    if (input.format === 'raw') return openDeviceWriter(target, opened.reader.size);
    throw new ChainkeepError('TARGET_INVALID', `a device takes a raw disk, not ${input.format}`, { advice: 'leave --format away, or restore to a file' });
  }
  return createFileWriter(target, {
    size: input.format === 'raw' ? opened.reader.size : 0,
    replace: input.force,
    // A kill leaves the partial file; whoever settles this job removes it.
    onPartial: (path) => job.setMetadata({ partial: path }),
  });
}

function inspectTarget(path: string): TargetKind {
  if (/^(nbd|nbds|nbd\+unix):/.test(path)) {
    throw new ChainkeepError('NOT_BUILT_YET', 'restoring to an NBD address is not built yet', { advice: 'restore to a file or a block device' });
  }
  try {
    const stat = statSync(path);
    if (stat.isBlockDevice()) return 'device';
    if (stat.isFile()) return 'existing file';
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return 'new file';
    throw targetError(path, error);
  }
  throw new ChainkeepError('TARGET_INVALID', `${path} is neither a file nor a block device`, { advice: 'name a new file, or a device with --force', context: { target: path } });
}

function refuseTarget(kind: TargetKind, target: string, input: RestoreInput): void {
  if (kind === 'new file' || input.force) return;
  const advice = kind === 'device' ? 'everything on it would be overwritten: say --force if that is what you want' : 'choose another name, or replace it with --force';
  throw new ChainkeepError('TARGET_EXISTS', `${target} is ${kind === 'device' ? 'a device' : 'there already'}`, { advice, context: { target } });
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

