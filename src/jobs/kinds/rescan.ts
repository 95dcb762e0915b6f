// The rescan job: reads every sidecar of a repository again and makes the rows of the catalog what the repository says, batch by batch.
// It must not write to the repository, and takes no lease: what is being made or deleted at the moment is left alone.

import type { JobWatch, RescanOutcome } from '../../app-interface.ts';
import { listDisks, selectBackupJobs } from '../../catalog/backup-jobs.ts';
import type { BackupRepository } from '../../catalog/backup-repositories.ts';
import { listCopiedBackups, listCopiedDisks } from '../../catalog/copied-backups.ts';
import { throwIfCancelled } from '../../plumbing/errors.ts';
import { mapAhead } from '../../plumbing/map-ahead.ts';
import { type DiskPlace, diskFolder } from '../../repository/layout.ts';
import type { Repository } from '../../repository/repository.ts';
import type { RepositorySurvey, ScannedDisk } from '../../repository/scan-disk.ts';
import type { JobContext } from '../job.ts';
import { runJob } from '../runner.ts';
import type { JobEnvironment } from './job-environment.ts';
import { type Item, itemsOf, RescanBatch } from './rescan-batch.ts';
import { RescanTally } from './rescan-tally.ts';

/** Folders that are read at the same time. */
const DISKS_AHEAD = 4;

/** Backups in one transaction: it holds the lock of the database, and others wait for it. */
const BATCH = 200;

const NOT_REBUILT = [
  'when backups were verified',
  'failed and cancelled runs',
  'policies',
  'users',
  'the job log',
  'names given to VMs after their last backup',
];

export async function rescan(environment: JobEnvironment, row: BackupRepository, watch: JobWatch): Promise<RescanOutcome> {
  const spec = { jobType: 'rescan', operation: `rescan of repository ${row.name}`, metadata: { repository_id: row.id } };
  const { jobId, result } = await runJob(environment, spec, watch, async (job) => {
    const { repository } = await environment.repositories.openRepository(row, job.logger, job.signal);
    try {
      const tally = new RescanTally(repository.readOnly, job.logger);
      const survey = await job.step('look what there is', () => repository.survey());
      const run = { environment, row, repository, job, tally };
      await job.step('read the backups', () => readDisks(run, survey));
      await job.step('look for what is missing', () => findLostDisks(run, survey));
      return { ...tally.outcome(), other_files: survey.otherFiles, other_names: survey.otherNames, read_only: repository.readOnly };
    } finally {
      await repository.close();
    }
  });
  return { job_id: jobId, repository: row.name, repository_id: row.id, ...result, not_rebuilt: NOT_REBUILT };
}

export interface RescanRun {
  readonly environment: JobEnvironment;
  readonly row: BackupRepository;
  readonly repository: Repository;
  readonly job: JobContext;
  readonly tally: RescanTally;
}

async function readDisks(run: RescanRun, { places, sidecarBytes }: RepositorySurvey): Promise<void> {
  const { job, repository } = run;
  let done = 0;
  let waiting: Item[] = [];
  const scan = async (place: DiskPlace): Promise<ScannedDisk> => {
    throwIfCancelled(job.signal);
    return repository.scanDisk(place);
  };
  for await (const scanned of mapAhead(places, DISKS_AHEAD, scan)) {
    waiting.push(...itemsOf(scanned.folder.place, scanned, await idsInCatalog(run, scanned.folder.place)));
    while (waiting.length >= BATCH) {
      await settle(run, waiting.slice(0, BATCH));
      waiting = waiting.slice(BATCH);
    }
    done += scanned.sidecarBytes;
    job.progress('rescan', done, sidecarBytes);
  }
  await settle(run, waiting);
}

/** Disks of which no file is left: only the catalog knows them. */
async function findLostDisks(run: RescanRun, { places }: RepositorySurvey): Promise<void> {
  const looked = new Set(places.map(diskFolder));
  const { catalog } = run.environment;
  const own = (await listDisks(catalog, run.row.id)).map((disk) => ({ vmContextId: disk.vm_context_id, diskId: disk.disk_id }));
  for (const place of [...own, ...(await listCopiedDisks(catalog, run.row.id))]) {
    if (looked.has(diskFolder(place))) continue;
    looked.add(diskFolder(place));
    const items = itemsOf(place, undefined, await idsInCatalog(run, place));
    for (let start = 0; start < items.length; start += BATCH) await settle(run, items.slice(start, start + BATCH));
  }
}

/** Of backups of this repository, and of copies in it that are complete. */
async function idsInCatalog({ environment: { catalog }, row }: RescanRun, place: DiskPlace): Promise<readonly string[]> {
  const rows = await selectBackupJobs(catalog, { ...place, repositoryId: row.id });
  return [...rows.map(({ id }) => id), ...(await listCopiedBackups(catalog, row.id, place))];
}

async function settle(run: RescanRun, items: readonly Item[]): Promise<void> {
  throwIfCancelled(run.job.signal);
  if (items.length > 0) await new RescanBatch(run, items).settle();
}
