// What the kinds of jobs work with: the catalog, the configured repositories, who this process is.

import { findBackupJob } from '../../catalog/backup-jobs.ts';
import { isPlaceholder } from '../../catalog/backup-marks.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Owner } from '../../catalog/owner-fields.ts';
import type { ChainManager } from '../../control/chain-manager.ts';
import type { Reading } from '../../control/reading.ts';
import type { RepositoryManager } from '../../control/repository-manager.ts';
import type { Clock } from '../../plumbing/clock.ts';
import type { JobContext } from '../job.ts';

/** What the catalog knows of a backup whose sidecar is not there. What is left of one that others need is evidence, too. */
export async function fateOf({ catalog }: JobEnvironment, backupId: string): Promise<'dead' | 'unknown' | 'completed'> {
  const row = await findBackupJob(catalog, backupId);
  if (!row) return 'unknown';
  return row.status === 'completed' || isPlaceholder(row) ? 'completed' : 'dead';
}

/** What a job says of the backups it reads. */
export function readingOf(
  { owner }: JobEnvironment,
  repositoryId: string,
  backupIds: readonly string[],
  { jobId, logger }: JobContext,
): Reading {
  return { repositoryId, backupIds, jobId, owner, logger };
}

export interface JobEnvironment {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly owner: Owner;
  readonly repositories: RepositoryManager;
  readonly chains: ChainManager;
}
