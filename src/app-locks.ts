// The part of the App that is about locks, holds and the clock they expire by.

import type * as view from './app-interface.ts';
import type { BackupJob } from './catalog/backup-jobs.ts';
import { findBackupJob } from './catalog/backup-jobs.ts';
import type { Catalog } from './catalog/catalog.ts';
import { type HoldListing, listHeldBackups, resolveHold } from './catalog/holds.ts';
import type { JobEnvironment } from './jobs/kinds/job-environment.ts';
import { isoTime } from './plumbing/clock.ts';
import { ChainkeepError } from './plumbing/errors.ts';

export interface LockParts {
  readonly catalog: Catalog;
  readonly open: () => Promise<JobEnvironment>;
  readonly findBackup: (reference: string, vm: string | undefined) => Promise<BackupJob>;
}

export function openHolds({ catalog, open, findBackup }: LockParts): view.Holds {
  return {
    add: async (reference, { vm, reason }, watch) => {
      const { addHold } = await import('./jobs/kinds/hold.ts');
      return addHold(await open(), await findBackup(reference, vm), reason, watch);
    },
    list: async ({ all, repository }) => {
      const repositoryId = repository === undefined ? undefined : (await (await open()).repositories.getRepository(repository)).id;
      return (await listHeldBackups(catalog, { all, ...(repositoryId !== undefined && { repositoryId }) })).map(listedHold);
    },
    lift: async (reference, watch) => {
      const hold = await resolveHold(catalog, reference);
      const backup = await findBackupJob(catalog, hold.backup_id);
      if (!backup) throw new ChainkeepError('HOLD_NOT_FOUND', `the backup of hold ${hold.id} was deleted meanwhile`);
      const { liftHold } = await import('./jobs/kinds/hold.ts');
      return liftHold(await open(), backup, hold, watch);
    },
  };
}

export function openClockCare({ catalog, open }: LockParts): view.ClockCare {
  return {
    show: async () => {
      const { currentMachine } = await import('./control/machine.ts');
      const { readTrustedTime } = await import('./control/trusted-time.ts');
      const { jump, problem } = await readTrustedTime(catalog, await currentMachine(catalog));
      return clockView(catalog.clock.now(), jump, problem);
    },
    confirm: async (watch) => {
      const { currentMachine } = await import('./control/machine.ts');
      const { confirmClock } = await import('./control/trusted-time.ts');
      const { runJob } = await import('./jobs/runner.ts');
      const machine = await currentMachine(catalog);
      const spec = { jobType: 'clock', operation: `confirm the clock of ${machine.id}` };
      const { jobId, result } = await runJob(await open(), spec, watch, (job) =>
        job.step('confirm', async () => {
          const { before, wall } = await confirmClock(catalog, machine);
          job.logger.log('info', `the clock is confirmed as ${isoTime(wall)}`, { jump_ms: before.jump, problem: before.problem });
          return wall;
        }),
      );
      return { job_id: jobId, ...clockView(result, 0, undefined) };
    },
  };
}

function clockView(wall: number, jump: number, problem: string | undefined): view.ClockView {
  return { time: isoTime(wall), trusted: problem === undefined, jump_ms: Math.round(jump), problem: problem ?? null };
}

function listedHold({ id, created_by, created_at, ...hold }: HoldListing): view.ListedHold {
  return { hold_id: id, by: created_by, since: created_at, ...hold };
}
