// The hold job: a reason why a backup may not be deleted, added or lifted. First the file beside the backup, then the store, then the catalog.
// It must not say that a backup is held before its file is there.

import { userInfo } from 'node:os';
import type { HoldOutcome, JobWatch } from '../../app-interface.ts';
import type { BackupJob } from '../../catalog/backup-jobs.ts';
import { isPlaceholder } from '../../catalog/backup-marks.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { type HoldRow, insertHold, listHolds, updateHold } from '../../catalog/holds.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import type { Guard } from '../../repository/guard.ts';
import type { Hold } from '../../repository/protection.ts';
import type { Repository } from '../../repository/repository.ts';
import { runJob } from '../runner.ts';
import type { JobEnvironment } from './job-environment.ts';
import { protectNow, tellingFailure } from './protect.ts';

// What the catalog and the file can hold; a reason is a sentence or two.
const LONGEST_REASON = 2000;

export async function addHold(environment: JobEnvironment, backup: BackupJob, reason: string, watch: JobWatch): Promise<HoldOutcome> {
  checkReason(reason);
  if (backup.status !== 'completed' && !isPlaceholder(backup)) {
    throw new ChainkeepError('BACKUP_NOT_FOUND', `backup ${backup.id} is ${backup.status}: there is nothing to hold`, {
      advice: 'choose a completed one: chainkeep list --status completed',
      context: { backup_id: backup.id, status: backup.status },
    });
  }
  const by = whoAmI(environment);
  const what = { operation: `hold ${backup.id} of ${backup.vm_name}, disk ${backup.disk_id}: ${reason}`, metadata: { reason, by } };
  return changeHold(environment, backup, what, watch, (repository, guard) =>
    repository.locks.addHold(placeOf(backup), backup.id, { reason, by }, guard),
  );
}

export async function liftHold(environment: JobEnvironment, backup: BackupJob, hold: HoldRow, watch: JobWatch): Promise<HoldOutcome> {
  if (hold.lifted_at !== null) {
    throw new ChainkeepError('HOLD_NOT_FOUND', `hold ${hold.id} of backup ${backup.id} was lifted at ${hold.lifted_at}`, {
      advice: 'nothing has to be done: see what holds it still with chainkeep hold list',
      context: { hold_id: hold.id, backup_id: backup.id },
    });
  }
  const by = whoAmI(environment);
  const operation = `lift hold ${hold.id} of ${backup.id} of ${backup.vm_name}, disk ${backup.disk_id}`;
  return changeHold(environment, backup, { operation, metadata: { hold_id: hold.id, by } }, watch, (repository, guard) =>
    repository.locks.liftHold(placeOf(backup), backup.id, { holdId: hold.id, by }, guard),
  );
}

async function changeHold(
  environment: JobEnvironment,
  backup: BackupJob,
  { operation, metadata }: { readonly operation: string; readonly metadata: Readonly<Record<string, unknown>> },
  watch: JobWatch,
  change: (repository: Repository, guard: Guard) => Promise<Hold>,
): Promise<HoldOutcome> {
  const row = await environment.repositories.getRepository(backup.repository_id);
  const place = placeOf(backup);
  const spec = {
    jobType: 'hold',
    operation,
    contextId: backup.vm_context_id,
    metadata: { repository_id: row.id, vm_context_id: backup.vm_context_id, disk_id: backup.disk_id, backup_id: backup.id, ...metadata },
  };
  const { jobId, result } = await runJob(environment, spec, watch, async (job) => {
    const { repository } = await environment.repositories.openRepository(row, job.logger, job.signal);
    try {
      return await environment.chains.withWriter(row.id, place, job, async (guard) => {
        const hold = await job.step('write the file', () => change(repository, guard));
        await job.step('catalog', () => enter(environment.catalog, backup.id, hold));
        // The hold is there, and our own refusal holds it: what the store cannot do is told.
        await tellingFailure(job, () => job.step('protect', () => protectNow({ environment, row, repository, job }, place, guard)));
        return hold;
      });
    } finally {
      await repository.close();
    }
  });
  return { job_id: jobId, ...viewOf(backup.id, result), repository: row.name };
}

function enter(catalog: Catalog, backupId: string, hold: Hold): Promise<void> {
  return catalog.transaction(async (unit) => {
    const { holdId, reason, createdBy, createdAt, liftedBy, liftedAt } = hold;
    const known = (await listHolds(unit, [backupId])).find(({ id }) => id === holdId);
    const fields = { reason, created_by: createdBy, created_at: createdAt, lifted_by: liftedBy, lifted_at: liftedAt };
    if (known) await updateHold(unit, holdId, fields);
    else await insertHold(unit, { id: holdId, backup_id: backupId, ...fields });
  });
}

function viewOf(
  backupId: string,
  { holdId, reason, createdBy, createdAt, liftedBy, liftedAt }: Hold,
): Omit<HoldOutcome, 'job_id' | 'repository'> {
  return { hold_id: holdId, backup_id: backupId, reason, by: createdBy, since: createdAt, lifted_by: liftedBy, lifted_at: liftedAt };
}

/** The user of the operating system, and the machine. */
function whoAmI({ owner }: JobEnvironment): string {
  try {
    return `${userInfo().username}@${owner.hostname}`;
  } catch {
    return `uid ${process.getuid?.() ?? 'unknown'}@${owner.hostname}`; // a user without an entry in the list of users, as in containers
  }
}

function checkReason(reason: string): void {
  const length = Array.from(reason).length;
  if (reason.trim() !== '' && length <= LONGEST_REASON && !reason.includes('\0') && reason.isWellFormed()) return;
  throw new ChainkeepError('CONFIG_INVALID', `the reason of a hold must be a text of 1 to ${LONGEST_REASON} characters`, {
    advice: 'say why with --reason TEXT: whoever wants to delete the backup reads it',
  });
}

function placeOf({ vm_context_id, disk_id }: BackupJob): { readonly vmContextId: string; readonly diskId: number } {
  return { vmContextId: vm_context_id, diskId: disk_id };
}
