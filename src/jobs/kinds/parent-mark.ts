// The change id that the next backup of a disk would begin at, by the catalog: a machine that can count from one mark only must be told before its
// disks are taken. It is a guess; whether the mark is the parent's is decided when the disk is planned.

import type { BackupInput } from '../../app-interface.ts';
import { selectBackupJobs } from '../../catalog/backup-jobs.ts';
import { findVmContext } from '../../catalog/vm-contexts.ts';
import type { RepositoryChoice } from './backup.ts';
import type { JobEnvironment } from './job-environment.ts';

/** Backups of one disk that are looked at to find the full of the chain. */
const LOOK_BACK = 1000;

export function parentMarkOf(
  { catalog }: JobEnvironment,
  { row }: RepositoryChoice,
  { vm, type }: BackupInput,
): (diskId: number) => Promise<string | undefined> {
  return async (diskId) => {
    const context = row && type !== 'full' ? await findVmContext(catalog, vm) : undefined;
    if (!row || !context) return undefined;
    const wanted = { vmContextId: context.context_id, diskId, repositoryId: row.id, statuses: ['completed'] } as const;
    const backups = await selectBackupJobs(catalog, wanted, type === 'differential' ? LOOK_BACK : 1);
    const parent = type === 'differential' ? backups.find(({ backup_type }) => backup_type === 'full') : backups[0];
    return parent?.change_id ?? undefined;
  };
}
