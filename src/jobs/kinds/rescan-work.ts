// Who is at work in a repository while it is rescanned: backups that are made, backups that are deleted.
// It must not guess: who cannot be proved dead is alive as long as his lease stands.

import type { BackupJob } from '../../catalog/backup-jobs.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { listTrackedJobs, type TrackedJob } from '../../catalog/job-tracking.ts';
import { type Lease, listLeases } from '../../catalog/leases.ts';
import { isProvablyDead } from '../../control/owner.ts';
import type { JobEnvironment } from './job-environment.ts';
import type { WriterState } from './reconcile.ts';

/** Jobs that have not ended, and all leases: few, however large the catalog is. */
export interface AtWork {
  readonly jobs: readonly TrackedJob[];
  readonly leases: readonly Lease[];
}

export async function readAtWork(unit: Catalog): Promise<AtWork> {
  return { jobs: await listTrackedJobs(unit, { statuses: ['pending', 'running'] }), leases: await listLeases(unit) };
}

/** A job says which backup it makes before there is a row (backup.ts): a row that no job names has lost its own. */
export function writerOf(row: BackupJob, { jobs, leases }: AtWork, { owner: self, clock }: JobEnvironment): WriterState {
  const job = jobs.find(({ metadata }) => metadata?.[`backup_id_of_disk_${row.disk_id}`] === row.id);
  if (!job) return 'dead';
  if (job.owner && isProvablyDead(job.owner, self)) return 'dead';
  const here = job.owner?.machine_id === self.machine_id && job.owner?.hostname === self.hostname && job.owner?.boot_id === self.boot_id;
  if (here) return 'alive';
  const lease = leases.find(
    ({ repository_id, vm_context_id, disk_id, job_id }) =>
      repository_id === row.repository_id && vm_context_id === row.vm_context_id && disk_id === row.disk_id && job_id === job.id,
  );
  return lease && Date.parse(lease.expires_at) > clock.now() ? 'unknown' : 'silent';
}

/** Whoever settles a delete that did not end finishes it, or says that nothing was deleted. */
export function beingDeleted(backupId: string, { jobs }: AtWork): boolean {
  return jobs.some(({ job_type, metadata }) => job_type === 'delete' && metadata?.backup_id === backupId);
}
