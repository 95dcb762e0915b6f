// Finds the backups of a restore point: all of its disks, or an error that names the one that is missing.

import type { JobWatch } from '../../app-interface.ts';
import { type BackupJob, selectBackupJobs } from '../../catalog/backup-jobs.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { findJobOfBackup } from '../../catalog/orphaned-backups.ts';
import { listRestorePoints, type RestorePoint } from '../../catalog/restore-points.ts';
import type { VmContext } from '../../catalog/vm-contexts.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';

/** Runs of one VM that can be at work at a time: their restore points are not complete yet. */
const LOOK_BACK = 20;

export interface FoundRestorePoint extends RestorePoint {
  /** By the number of their disks. */
  readonly backups: readonly BackupJob[];
}

/**
 * The newest restore point of the VM that was complete at `at` (an instant). Throws BACKUP_NOT_FOUND where there is none, and RESTORE_POINT_INCOMPLETE
 * where a disk that its run was to back up has no completed backup: an older one would not be what was asked for.
 */
export async function findRestorePoint(catalog: Catalog, vm: VmContext, at: string, watch: JobWatch): Promise<FoundRestorePoint> {
  for (const point of await listRestorePoints(catalog, vm.context_id, at, LOOK_BACK)) {
    const rows = await selectBackupJobs(catalog, { vmContextId: vm.context_id, restorePointId: point.restore_point_id });
    const backups = rows.filter(({ status }) => status === 'completed').toSorted((a, b) => a.disk_id - b.disk_id);
    const [first] = backups;
    const job = first && (await findJobOfBackup(catalog, first));
    if (!first || job?.status === 'running' || job?.status === 'pending') continue;
    refuseIncomplete(vm, point, { backups, planned: disksOf(job?.metadata?.disks, rows) });
    await tellOtherDisks(catalog, vm, { ...point, backups }, watch);
    return { ...point, backups };
  }
  throw new ChainkeepError('BACKUP_NOT_FOUND', `the VM ${vm.vm_name} has no restore point that was complete at ${at}`, {
    advice: `see what there is with: chainkeep list --vm ${vm.vm_name}`,
    context: { vm_context_id: vm.context_id, at },
  });
}

/** What the run was to back up, as its job and the rows of its backups say. */
function disksOf(planned: unknown, rows: readonly BackupJob[]): readonly number[] {
  const disks = Array.isArray(planned) ? planned.filter((disk): disk is number => typeof disk === 'number') : [];
  return [...new Set([...disks, ...rows.map(({ disk_id }) => disk_id)])].toSorted((a, b) => a - b);
}

function refuseIncomplete(
  vm: VmContext,
  { restore_point_id: id, completed_at: completed }: RestorePoint,
  { backups, planned }: { readonly backups: readonly BackupJob[]; readonly planned: readonly number[] },
): void {
  const missing = planned.filter((disk) => !backups.some(({ disk_id }) => disk_id === disk));
  if (missing.length === 0) return;
  const there = backups.map((backup) => `disk ${backup.disk_id}: ${backup.id}`).join(', ');
  const which = missing.map((disk) => `disk ${disk}`).join(', ');
  throw new ChainkeepError(
    'RESTORE_POINT_INCOMPLETE',
    `the restore point of ${vm.vm_name} of ${completed} lacks ${which}; it has ${there}`,
    {
      advice: 'choose an earlier time, or name the backup of one disk by its id',
      context: { restore_point_id: id, missing_disks: missing.map(String), backups: backups.map((backup) => backup.id) },
    },
  );
}

/** Disks that are backed up by runs of their own are no part of it, and somebody may miss them. */
async function tellOtherDisks(catalog: Catalog, vm: VmContext, point: FoundRestorePoint, { onNotice }: JobWatch): Promise<void> {
  const rows = await selectBackupJobs(catalog, { vmContextId: vm.context_id, statuses: ['completed'] });
  const others = new Set(rows.map(({ disk_id }) => disk_id).filter((disk) => point.backups.every(({ disk_id }) => disk_id !== disk)));
  if (others.size === 0) return;
  const which = [...others].toSorted((a, b) => a - b).map((disk) => `disk ${disk}`);
  onNotice?.(
    `${which.join(', ')} of ${vm.vm_name} was backed up by other runs, and is no part of the restore point of ${point.completed_at}`,
  );
}
