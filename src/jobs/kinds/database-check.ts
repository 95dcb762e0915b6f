// The check of the catalog: is it sound in itself, and does it say what the repositories say?
// It must not change anything: `repo rescan` makes the catalog right where a repository is, and this names what that would do.

import type { DatabaseCheck, DatabaseProblem, JobWatch } from '../../app-interface.ts';
import { type BackupJob, selectBackupJobs } from '../../catalog/backup-jobs.ts';
import type { BackupRepository } from '../../catalog/backup-repositories.ts';
import { checkChains, checkRows, checkStorage, type DatabaseFault } from '../../catalog/check-database.ts';
import { listCopiedBackups, listCopiedDisks } from '../../catalog/copied-backups.ts';
import { checkServerSettings } from '../../catalog/server-settings.ts';
import { ChainkeepError, throwIfCancelled } from '../../plumbing/errors.ts';
import type { DiskPlace } from '../../repository/layout.ts';
import type { Repository } from '../../repository/repository.ts';
import type { Sidecar } from '../../repository/sidecar-fields.ts';
import type { JobContext } from '../job.ts';
import { runJob } from '../runner.ts';
import { backupRow } from './backup-row.ts';
import type { JobEnvironment } from './job-environment.ts';

/** Problems that are listed; more are counted. */
const MOST_LISTED = 1000;

interface Tally {
  rows: number;
  backups: number;
  found: number;
  readonly problems: DatabaseProblem[];
}

/** A damaged file is named before there is a job: perhaps nothing can be written to it any more. */
export async function checkDatabase(environment: JobEnvironment, watch: JobWatch): Promise<DatabaseCheck> {
  const tally: Tally = { rows: 0, backups: 0, found: 0, problems: [] };
  await collect(tally, checkStorage(environment.catalog), watch.signal);
  const warnings = await checkServerSettings(environment.catalog);
  if (tally.found > 0) return { job_id: null, ...tally, warnings };
  const spec = { jobType: 'database', operation: 'check of the database' };
  const { jobId } = await runJob(environment, spec, watch, async (job) => {
    for (const { message, setting } of warnings) job.logger.log('warn', message, { setting });
    await job.step('rows', () => lookAtRows(environment, job, tally));
    await job.step('chains', () => collect(tally, checkChains(environment.catalog), job.signal));
    for (const row of await environment.repositories.listRepositories()) {
      await job.step(`repository ${row.name}`, () => compareRepository(environment, row, job, tally));
    }
    for (const { message } of tally.problems) job.logger.log('error', message);
  });
  return { job_id: jobId, ...tally, warnings };
}

async function lookAtRows({ catalog }: JobEnvironment, job: JobContext, tally: Tally): Promise<void> {
  const onRows = (rows: number): void => {
    tally.rows += rows;
  };
  await collect(tally, checkRows(catalog, onRows), job.signal);
}

async function collect(tally: Tally, faults: AsyncIterable<DatabaseFault>, signal: AbortSignal | undefined): Promise<void> {
  for await (const fault of faults) {
    throwIfCancelled(signal);
    const where = [fault.table, fault.key].filter((part) => part !== null).join(' ');
    add(tally, { ...fault, repository: null, message: where === '' ? fault.message : `${where}: ${fault.message}` });
  }
}

function add(tally: Tally, problem: DatabaseProblem): void {
  tally.found += 1;
  if (tally.problems.length < MOST_LISTED) tally.problems.push(problem);
}

interface Compared {
  readonly environment: JobEnvironment;
  readonly row: BackupRepository;
  readonly repository: Repository;
  readonly tally: Tally;
}

async function compareRepository(environment: JobEnvironment, row: BackupRepository, job: JobContext, tally: Tally): Promise<void> {
  let repository: Repository;
  try {
    ({ repository } = await environment.repositories.openRepository(row, job.logger, job.signal));
  } catch (error) {
    if (!(error instanceof ChainkeepError)) throw error;
    const message = `repository ${row.name} could not be compared: ${error.message}`;
    return add(tally, { code: error.code, table: null, key: null, repository: row.name, message });
  }
  try {
    for (const place of await placesOf(environment, row, repository)) {
      throwIfCancelled(job.signal);
      await compareDisk({ environment, row, repository, tally }, place);
    }
  } finally {
    await repository.close();
  }
}

async function placesOf({ catalog }: JobEnvironment, row: BackupRepository, repository: Repository): Promise<readonly DiskPlace[]> {
  const found = [...(await repository.listDisks()), ...(await listCopiedDisks(catalog, row.id))];
  const places = new Map(found.map((place) => [`${place.vmContextId}/${place.diskId}`, place]));
  return [...places.values()];
}

async function compareDisk(compared: Compared, place: DiskPlace): Promise<void> {
  const { environment, row, repository, tally } = compared;
  const first = await differences(compared, place);
  tally.backups += first.backups;
  if (first.problems.length === 0) return;
  // A backup or a delete may have been between its two sides at that moment: what is seen twice is a difference.
  const second = await differences({ environment, row, repository, tally }, place);
  const seen = new Set(first.problems.map(({ code, key }) => `${code} ${key}`));
  for (const problem of second.problems) if (seen.has(`${problem.code} ${problem.key}`)) add(tally, problem);
}

async function differences(
  { environment: { catalog }, row, repository }: Compared,
  place: DiskPlace,
): Promise<{ readonly backups: number; readonly problems: readonly DatabaseProblem[] }> {
  const rows = new Map((await selectBackupJobs(catalog, { ...place, repositoryId: row.id })).map((backup) => [backup.id, backup]));
  const copied = await listCopiedBackups(catalog, row.id, place);
  const { sidecars, damaged } = await repository.readDisk(place);
  const problems: DatabaseProblem[] = [];
  const say = (code: string, key: string, message: string): void => {
    problems.push({ code, table: 'backup_jobs', key, repository: row.name, message: `backup ${key} ${message}` });
  };
  for (const sidecar of sidecars) {
    const known = rows.get(sidecar.backup_id);
    if (known === undefined && copied.has(sidecar.backup_id)) continue;
    if (known === undefined) say('BACKUP_UNLISTED', sidecar.backup_id, `is in the repository ${row.name} and not in the catalog`);
    else if (known.status === 'running' || known.status === 'pending') continue;
    else for (const what of differing(known, sidecar, row)) say('BACKUP_DIFFERS', known.id, what);
  }
  for (const [id, error] of damaged) say('BACKUP_DAMAGED', id, `is damaged in the repository ${row.name}: ${error.message}`);
  const there = new Set([...sidecars.map((sidecar) => sidecar.backup_id), ...damaged.keys()]);
  const completed = [...rows.values()].filter(({ status }) => status === 'completed').map(({ id }) => id);
  for (const id of [...completed, ...copied]) {
    if (!there.has(id)) say('BACKUP_MISSING', id, `is in the catalog and not in the repository ${row.name}`);
  }
  return { backups: sidecars.length, problems };
}

/** What a completed backup says of itself in its sidecar, and cannot have changed since. */
const FIXED = [
  'status',
  'backup_type',
  'parent_backup_id',
  'chain_id',
  'size_bytes',
  'total_bytes',
  'content_root',
  'digest_root',
] as const;

function differing(known: BackupJob, sidecar: Sidecar, repository: BackupRepository): readonly string[] {
  const expected: Partial<BackupJob> = backupRow(sidecar, repository);
  return FIXED.filter((name) => known[name] !== expected[name]).map(
    (name) => `has ${name.replaceAll('_', ' ')} ${known[name]} in the catalog, ${expected[name]} in the repository`,
  );
}
