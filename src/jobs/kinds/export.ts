// The export job: backups as disks over NBD, each byte checked, until somebody ends it. A delete waits for it as for a restore.
// What clients write to them lies in scratch files, and never reaches a backup.

import { once } from 'node:events';
import type { ExportInput, ExportOutcome, ExportWatch, ScratchPlace } from '../../app-interface.ts';
import type { BackupJob } from '../../catalog/backup-jobs.ts';
import { withReading } from '../../control/reading.ts';
import type { DiskReader } from '../../disk/disk-reader.ts';
import { openScratchDisk } from '../../disk/scratch-disk.ts';
import { mostWithoutReserving, type ScratchRoom } from '../../disk/scratch-file.ts';
import { loadBlake3 } from '../../plumbing/blake3.ts';
import { ChainkeepError, isChainkeepError } from '../../plumbing/errors.ts';
import { checkedReader } from '../../repository/checked-reader.ts';
import type { OpenedBackup } from '../../repository/open-backup.ts';
import type { Repository } from '../../repository/repository.ts';
import type { JobContext } from '../job.ts';
import { runJob } from '../runner.ts';
import { type JobEnvironment, readingOf } from './job-environment.ts';
import { findKnownChain, type KnownChain, openKnown } from './known-chain.ts';
import { type DiskToServe, withServedDisks } from './serve-disks.ts';

/** Backups of different disks of one VM in one repository, each with its chain. */
interface Chosen {
  readonly backup: BackupJob;
  readonly chain: KnownChain;
}

/** Ends well when the job is cancelled: there is no other end. */
export async function exportBackups(
  environment: JobEnvironment,
  backups: readonly BackupJob[],
  input: ExportInput,
  watch: ExportWatch,
): Promise<ExportOutcome> {
  const [first] = backups;
  if (!first) throw new ChainkeepError('INTERNAL', 'an export without a backup');
  const row = await environment.repositories.getRepository(first.repository_id);
  const chosen: Chosen[] = [];
  for (const backup of backups) chosen.push({ backup, chain: await findKnownChain(environment, backup) });
  const what = backups.map(({ disk_id, id }) => `disk ${disk_id}, ${id}`).join(', ');
  const spec = {
    jobType: 'export',
    operation: `${input.writable ? 'writable export' : 'export'} of ${first.vm_name}, ${what}`,
    contextId: first.vm_context_id,
    metadata: { repository_id: row.id, ...(backups.length === 1 ? { backup_id: first.id } : { backup_ids: backups.map(({ id }) => id) }) },
  };
  const { jobId } = await runJob(environment, spec, watch, (job) => {
    const ids = chosen.flatMap(({ chain }) => chain.ids);
    return withReading(environment.catalog, readingOf(environment, row.id, ids, job), async () => {
      const { repository } = await environment.repositories.openRepository(row, job.logger, job.signal);
      const opened: OpenedBackup[] = [];
      try {
        await job.step('open', () => openAll(repository, chosen, opened));
        await job.step('serve', () => serve(opened, input, { job, watch }));
      } finally {
        await Promise.all(opened.map((backup) => backup.close()));
        await repository.close();
      }
    });
  });
  return { job_id: jobId };
}

async function openAll(repository: Repository, chosen: readonly Chosen[], opened: OpenedBackup[]): Promise<void> {
  for (const { backup, chain } of chosen) opened.push(await openKnown(repository, backup, chain));
}

interface Serving {
  readonly job: JobContext;
  readonly watch: ExportWatch;
}

async function serve(opened: readonly OpenedBackup[], input: ExportInput, { job, watch }: Serving): Promise<void> {
  const blake3 = await loadBlake3();
  const disks: DiskToServe[] = [];
  const bases: DiskReader[] = [];
  try {
    for (const backup of opened) {
      const { vm_name: vm, disk_id: diskId, completed_at } = backup.sidecar;
      const base = checkedReader(backup, blake3);
      bases.push(base);
      const description = `${vm}, disk ${diskId}, of ${completed_at}`;
      disks.push({ diskId, description, ...(input.writable ? await throwAway(base, input.writable) : { disk: base }) });
    }
    await withServedDisks(job, input, disks, async (served) => {
      const [first] = opened;
      watch.onServing({
        job_id: job.jobId,
        restore_point_id: first?.sidecar.restore_point_id ?? null,
        completed_at:
          opened
            .map(({ sidecar }) => sidecar.completed_at)
            .toSorted()
            .at(-1) ?? null,
        disks: served.map((disk, index) => ({ ...disk, backup_id: opened[index]?.sidecar.backup_id ?? '' })),
      });
      if (!job.signal.aborted) await once(job.signal, 'abort');
      if (!isChainkeepError(job.signal.reason, 'CANCELLED')) throw job.signal.reason;
    });
  } finally {
    await Promise.all([...disks.map(({ disk }) => disk), ...bases].map((disk) => disk.close()));
  }
}

/** The disk with an overlay that nobody keeps. */
async function throwAway(base: DiskReader, { folder, bytes }: ScratchPlace): Promise<Pick<DiskToServe, 'disk' | 'changes'>> {
  const room: ScratchRoom =
    bytes === undefined ? { folder, most: mostWithoutReserving(folder), reserve: false } : { folder, most: bytes, reserve: true };
  const disk = await openScratchDisk({ size: base.size, base, room });
  return { disk, changes: disk };
}
