// The verify job: one backup with what it stands on, all of a VM, or a whole repository against the catalog.

import type { Damage, JobWatch, VerifyOutcome } from '../../app-interface.ts';
import { findBackupCopyById, updateBackupCopy } from '../../catalog/backup-copies.ts';
import { type BackupJob, findBackupJob, selectBackupJobs, updateBackupJob } from '../../catalog/backup-jobs.ts';
import { MISSING } from '../../catalog/backup-marks.ts';
import type { BackupRepository } from '../../catalog/backup-repositories.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { selectCopiedBackups } from '../../catalog/copied-backups.ts';
import { listTrackedJobs } from '../../catalog/job-tracking.ts';
import { withReading } from '../../control/reading.ts';
import { isoTime } from '../../plumbing/clock.ts';
import type { DiskPlace } from '../../repository/layout.ts';
import type { Repository } from '../../repository/repository.ts';
import type { ListedDisk } from '../../repository/scan-disk.ts';
import type { NamedDamage, VerifiedBackup } from '../../repository/verify-disk.ts';
import { damageOf } from '../../repository/verify-image.ts';
import type { BlobInfo } from '../../store/blob-store.ts';
import { startWorkersAhead } from '../../transfer/idle-workers.ts';
import type { JobContext } from '../job.ts';
import { runJob } from '../runner.ts';
import { type JobEnvironment, readingOf } from './job-environment.ts';
import { findReplaced } from './replaced-backup.ts';
import { findProtectionDamage } from './verify-protection.ts';

/** What to verify, resolved: in each repository the disks, and of each disk these backups (all of them without). */
export interface VerifyScope {
  readonly row: BackupRepository;
  /** Undefined: every disk that lies in the repository. */
  readonly places?: readonly DiskPlace[];
  readonly only?: readonly string[];
}

export interface VerifyPlan {
  /** For people: "backup ID of web, disk 0". */
  readonly what: string;
  readonly scopes: readonly VerifyScope[];
}

interface Tally {
  checked: number;
  clusters: number;
  bytes: number;
  readonly damaged: Damage[];
}

export async function verify(
  environment: JobEnvironment,
  { what, scopes }: VerifyPlan,
  quick: boolean,
  watch: JobWatch,
): Promise<VerifyOutcome> {
  if (!quick) startWorkersAhead();
  const metadata = { quick, repository_ids: scopes.map((scope) => scope.row.id), backup_ids: scopes.flatMap((scope) => scope.only ?? []) };
  const spec = { jobType: 'verify', operation: `verify ${what}${quick ? ' (metadata only)' : ''}`, metadata };
  const { jobId, result } = await runJob(environment, spec, watch, async (job) => {
    const tally: Tally = { checked: 0, clusters: 0, bytes: 0, damaged: [] };
    for (const scope of scopes) await job.step(`repository ${scope.row.name}`, () => verifyScope(environment, scope, quick, job, tally));
    return tally;
  });
  return { job_id: jobId, ...result };
}

async function verifyScope(environment: JobEnvironment, scope: VerifyScope, quick: boolean, job: JobContext, tally: Tally): Promise<void> {
  const { repository } = await environment.repositories.openRepository(scope.row, job.logger, job.signal);
  try {
    const all = await everyBackup(environment.catalog, scope.row.id);
    for await (const { place, listed } of placesOf(repository, scope, all, quick)) {
      const expected = all.filter(({ row }) => row.vm_context_id === place.vmContextId && row.disk_id === place.diskId);
      const only = scope.only ? { only: scope.only } : {};
      const toVerify = { repositoryId: scope.row.id, place, expected, ...only, ...(listed && { listed }) };
      await verifyPlace(environment, repository, toVerify, quick, job, tally);
    }
  } finally {
    await repository.close();
  }
}

/** What the catalog says must be there. */
interface Expected {
  /** Of the backup; of a copy it belongs to another repository. */
  readonly row: BackupJob;
  readonly copyId: string | undefined;
}

async function everyBackup(catalog: Catalog, repositoryId: string): Promise<readonly Expected[]> {
  const rows = await selectBackupJobs(catalog, { repositoryId, statuses: ['completed'] });
  const copies = await selectCopiedBackups(catalog, repositoryId);
  return [...rows.map((row) => ({ row, copyId: undefined })), ...copies.map(({ backup, copyId }) => ({ row: backup, copyId }))];
}

type PlaceToLookAt = Pick<ListedDisk, 'place'> & Partial<ListedDisk>;

/** A quick look is over before its listing is stale, and needs no other; a full verify takes hours, and lists each folder when it comes to it. */
async function* placesOf(
  repository: Repository,
  { places }: VerifyScope,
  all: readonly Expected[],
  quick: boolean,
): AsyncGenerator<PlaceToLookAt> {
  if (places || !quick) {
    for (const place of places ?? (await everyPlace(repository, all))) yield { place };
    return;
  }
  const seen = new Set<string>();
  for await (const disk of repository.walkDisks()) {
    seen.add(keyOf(disk.place));
    yield disk;
  }
  for (const place of placesIn(all)) if (!seen.has(keyOf(place))) yield { place };
}

interface PlaceToVerify {
  readonly repositoryId: string;
  readonly place: DiskPlace;
  readonly expected: readonly Expected[];
  readonly only?: readonly string[];
  readonly listed?: readonly BlobInfo[];
}

async function verifyPlace(
  environment: JobEnvironment,
  repository: Repository,
  { repositoryId, place, expected, only, listed }: PlaceToVerify,
  quick: boolean,
  job: JobContext,
  tally: Tally,
): Promise<void> {
  const disk = { place, ...(listed && { listed }) };
  const site = { environment, repository, place };
  const seen = new Set<string>();
  const known = new Map(expected.map((one) => [one.row.id, one]));
  const run = {
    quick,
    ...(listed && { listed }),
    signal: job.signal,
    // One after the other: a verify takes hours, and only what it reads at the moment has to stay.
    whileReading: <T>(id: string, work: () => Promise<T>) =>
      withReading(environment.catalog, readingOf(environment, repositoryId, [id], job), work),
    onProgress: (done: number) => job.progress(`${place.vmContextId} disk ${place.diskId}`, tally.bytes + done, 0),
  };
  for await (const verified of repository.verifyDisk(place, run, only)) {
    seen.add(verified.backupId);
    const one = known.get(verified.backupId);
    if (verified.damage.length > 0 && (await isDeleted(site, verified.backupId, one))) continue;
    tally.checked++;
    tally.clusters += verified.clusters;
    tally.bytes += verified.bytes;
    const found = [...verified.damage, ...replaced(one?.row, verified)];
    const good = found.length === 0;
    for (const damage of found) report(damage, job, tally);
    await remember(environment, one, { good, quick });
  }
  // The data is as good as it was: what protects it is not a matter of verification_status.
  // What the catalog knows of locks and holds is of the backup where it was made, not of its copies.
  const inScope = expected.filter(({ row, copyId }) => copyId === undefined && (!only || only.includes(row.id))).map(({ row }) => row);
  for (const damage of await findProtectionDamage(environment, repository, disk, inScope)) {
    if (!(await isDeleted(site, damage.backupId, known.get(damage.backupId)))) report(damage, job, tally);
  }
  // A backup that is gone leaves no trace in the repository; only the catalog knows that there was one.
  for (const one of expected) {
    const { id } = one.row;
    if (seen.has(id) || (only && !only.includes(id)) || (await isDeleted(site, id, one))) continue;
    const missing = { code: 'BACKUP_NOT_FOUND', message: MISSING, guestOffset: null, length: null } as const;
    report({ ...missing, backupId: id, affects: [id] }, job, tally);
    await remember(environment, one, { good: false, quick: false, problem: MISSING });
  }
}

/** Who stands on it does not fit on it any more, and is named by itself. */
function replaced(row: BackupJob | undefined, { backupId, contentRoot }: VerifiedBackup): NamedDamage[] {
  const error = findReplaced(row, contentRoot);
  return error ? [{ ...damageOf(error), backupId, affects: [backupId] }] : [];
}

interface Site {
  readonly environment: JobEnvironment;
  readonly repository: Repository;
  readonly place: DiskPlace;
}

/** Deletes go on while a verify runs, and what they take away is no damage. `one`: what was expected; nothing of a backup made meanwhile. */
async function isDeleted({ environment, repository, place }: Site, backupId: string, one: Expected | undefined): Promise<boolean> {
  const { catalog } = environment;
  if (one?.copyId !== undefined && !(await findBackupCopyById(catalog, one.copyId))) return true;
  // In this order: a delete that ends between the two has taken its row along.
  const running = await listTrackedJobs(catalog, { statuses: ['running'] });
  if (await findBackupJob(catalog, backupId)) {
    if (!running.some((job) => job.job_type === 'delete' && job.metadata?.backup_id === backupId)) return false;
  } else if (one) return true;
  // A delete begins with the sidecar: as long as that is there, what was found is damage.
  const { sidecars, damaged } = await repository.readDisk(place);
  return !damaged.has(backupId) && !sidecars.some((sidecar) => sidecar.backup_id === backupId);
}

function report(damage: NamedDamage, job: JobContext, tally: Tally): void {
  const { backupId, code, guestOffset, length, message, affects } = damage;
  tally.damaged.push({ backup_id: backupId, code, guest_offset: guestOffset, length, message, affects });
  job.logger.log('error', `backup ${backupId}: ${message}`, { code, guest_offset: guestOffset, length, affects });
}

interface Verdict {
  readonly good: boolean;
  readonly quick: boolean;
  /** What listings say of the backup from now on. */
  readonly problem?: string;
}

/** A passed quick look proves nothing about the data, so it does not count as a verification; damage always does. */
async function remember({ catalog, clock }: JobEnvironment, one: Expected | undefined, verdict: Verdict): Promise<void> {
  const { good, quick, problem } = verdict;
  if ((good && quick) || !one) return;
  const verified = { verified_at: isoTime(clock.now()), verification_status: good ? 'passed' : 'failed' } as const;
  // What else is known of it stays: a failed verify says nothing of why it was marked.
  const marked = problem === undefined && !good ? verified : { ...verified, error_message: problem ?? null };
  if (one.copyId === undefined) await updateBackupJob(catalog, one.row.id, marked);
  else await updateBackupCopy(catalog, one.copyId, marked);
}

async function everyPlace(repository: Repository, all: readonly Expected[]): Promise<DiskPlace[]> {
  const places = new Map((await repository.listDisks()).map((place) => [keyOf(place), place]));
  for (const place of placesIn(all)) places.set(keyOf(place), place);
  return [...places.values()];
}

function placesIn(all: readonly Expected[]): readonly DiskPlace[] {
  const places = all.map(({ row }) => ({ vmContextId: row.vm_context_id, diskId: row.disk_id }));
  return [...new Map(places.map((place) => [keyOf(place), place])).values()];
}

function keyOf({ vmContextId, diskId }: DiskPlace): string {
  return `${vmContextId}/${diskId}`;
}
