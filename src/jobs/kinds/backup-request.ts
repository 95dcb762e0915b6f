// What a backup asks of the repository: the disk, what the user said, and which backups the catalog has no good word for.

import { type BackupJob, selectBackupJobs } from '../../catalog/backup-jobs.ts';
import type { BackupRequest } from '../../repository/create-backup.ts';
import type { Repository } from '../../repository/repository.ts';
import type { Run } from './backup.ts';
import type { Disk } from './backup-sources.ts';
import { findReplaced } from './replaced-backup.ts';

export async function requestFor(
  { environment, row, input, context, restorePointId }: Run,
  repository: Repository,
  disk: Disk,
): Promise<BackupRequest> {
  const place = { vmContextId: context.context_id, diskId: disk.diskId };
  const rows = await selectBackupJobs(environment.catalog, { ...place, repositoryId: row.id, statuses: ['completed'] });
  const { sidecars } = await repository.readDisk(place);
  const roots = new Map(sidecars.map((sidecar) => [sidecar.backup_id, sidecar.content_root]));
  const isGood = (backup: BackupJob): boolean =>
    backup.verification_status !== 'failed' && roots.has(backup.id) && !findReplaced(backup, roots.get(backup.id) ?? null);
  return {
    place,
    vmName: context.vm_name,
    externalId: context.external_id,
    restorePointId,
    type: input.type,
    compression: input.compression,
    ...(input.cluster_size === undefined ? {} : { clusterSize: input.cluster_size }),
    changeId: input.change_id ?? disk.source.mark ?? null,
    changes: disk.source.changes,
    policyId: null,
    reader: disk.source.reader,
    sourceKind: disk.source.kind,
    checkSource: () => disk.source.checkUnchanged(),
    metadata: disk.nameInVm === undefined ? {} : { disk_name: disk.nameInVm },
    damaged: new Set(rows.filter((backup) => !isGood(backup)).map((backup) => backup.id)),
  };
}
