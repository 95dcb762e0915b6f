// The export job: a restore point as a disk over NBD, each byte checked, until somebody ends it. A delete waits for it as for a restore.

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { ExportInput, ExportOutcome, ExportWatch } from '../../app-interface.ts';
import type { BackupJob } from '../../catalog/backup-jobs.ts';
import { withReading } from '../../control/reading.ts';
import { describeAddress } from '../../nbd/client/address.ts';
import { openNbdServer } from '../../nbd/server/nbd-server.ts';
import { readServerTls } from '../../nbd/server/server-tls.ts';
import { loadBlake3 } from '../../plumbing/blake3.ts';
import { isChainkeepError } from '../../plumbing/errors.ts';
import { checkedReader } from '../../repository/checked-reader.ts';
import type { OpenedBackup } from '../../repository/open-backup.ts';
import type { JobContext } from '../job.ts';
import { runJob } from '../runner.ts';
import { type JobEnvironment, readingOf } from './job-environment.ts';
import { findKnownChain, openKnown } from './known-chain.ts';

/** Ends well when the job is cancelled: there is no other end. */
export async function exportBackup(
  environment: JobEnvironment,
  backup: BackupJob,
  input: ExportInput,
  watch: ExportWatch,
): Promise<ExportOutcome> {
  const row = await environment.repositories.getRepository(backup.repository_id);
  const chain = await findKnownChain(environment, backup);
  const spec = {
    jobType: 'export',
    operation: `export of ${backup.vm_name}, disk ${backup.disk_id}, ${backup.id}`,
    contextId: backup.vm_context_id,
    metadata: { repository_id: row.id, backup_id: backup.id },
  };
  const { jobId } = await runJob(environment, spec, watch, (job) =>
    withReading(environment.catalog, readingOf(environment, row.id, chain.ids, job), async () => {
      const { repository } = await environment.repositories.openRepository(row, job.logger, job.signal);
      try {
        const opened = await job.step('open', () => openKnown(repository, backup, chain));
        try {
          await job.step('serve', () => serve(opened, input, { job, watch }));
        } finally {
          await opened.close();
        }
      } finally {
        await repository.close();
      }
    }),
  );
  return { job_id: jobId, backup_id: backup.id };
}

async function serve(
  opened: OpenedBackup,
  { listen, tls_certificates: certificates, plaintext }: ExportInput,
  { job, watch }: { readonly job: JobContext; readonly watch: ExportWatch },
): Promise<void> {
  const { backup_id, vm_name: vm, disk_id: disk, total_bytes, completed_at } = opened.sidecar;
  const tls = certificates === undefined ? {} : { tls: await readServerTls(certificates) };
  // Whoever knows the name may read the disk.
  const name = randomBytes(16).toString('hex');
  const description = `${vm}, disk ${disk}, of ${completed_at}`;
  const server = await openNbdServer({
    ...{ listen, plaintext, ...tls },
    exports: [{ name, description, disk: checkedReader(opened, await loadBlake3()) }],
    onProblem: (error) => {
      const message = error instanceof Error ? error.message : String(error);
      job.logger.log('warn', `export: ${message}`, isChainkeepError(error) ? { code: error.code, ...error.context } : {});
    },
  });
  try {
    // A kill leaves the socket; whoever settles this job removes it.
    if (server.address.kind === 'unix') await job.setMetadata({ socket: server.address.path });
    const address = describeAddress({ place: server.address, exportName: name, ...(tls.tls && { tls: {} }) });
    watch.onServing({ backup_id, address, total_bytes, job_id: job.jobId });
    if (!job.signal.aborted) await once(job.signal, 'abort');
    if (!isChainkeepError(job.signal.reason, 'CANCELLED')) throw job.signal.reason;
  } finally {
    await server.close();
  }
}
