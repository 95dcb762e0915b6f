// What a push of changes stands on: the backup that has the change id, whose bytes are read for all that is not written.

import { withReading } from '../../control/reading.ts';
import type { ChangeTracking } from '../../disk/change-list.ts';
import type { DiskReader } from '../../disk/disk-reader.ts';
import type { ScratchDisk } from '../../disk/scratch-disk.ts';
import { loadBlake3 } from '../../plumbing/blake3.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { checkedReader } from '../../repository/checked-reader.ts';
import type { BackupPlan } from '../../repository/create-backup.ts';
import type { JobContext } from '../job.ts';
import type { RepositoryChoice } from './backup.ts';
import { type JobEnvironment, readingOf } from './job-environment.ts';

/** For the first look, before anything is served: it must be the parent that has this change id. */
export function demandParent(sinceChangeId: string): ChangeTracking {
  const list = { name: 'the client', changed: async function* () {} };
  return { name: nameOf(sinceChangeId), since: (mark) => (mark === sinceChangeId ? list : undefined), otherwise: 'refuse' };
}

/** For the backup: where another backup came between, the disk is still right, and is compared as a whole. */
export function changesOf(disk: ScratchDisk, sinceChangeId: string, baseId: string): ChangeTracking {
  const list = {
    name: 'the client',
    changed: async function* () {
      yield* disk.touched();
    },
  };
  const isBase = (mark: string, backupId?: string): boolean => mark === sinceChangeId && backupId === baseId;
  return { name: nameOf(sinceChangeId), since: (mark, backupId) => (isBase(mark, backupId) ? list : undefined), otherwise: 'compare' };
}

function nameOf(sinceChangeId: string): string {
  return `a push of what changed since ${JSON.stringify(sinceChangeId)}`;
}

export interface PushBase {
  readonly backupId: string;
  readonly disk: DiskReader;
}

interface BaseWanted {
  readonly environment: JobEnvironment;
  readonly choice: RepositoryChoice;
  readonly vmContextId: string;
  readonly diskId: number;
  readonly sinceChangeId: string;
  readonly plan: Pick<BackupPlan, 'type' | 'chain'>;
}

/** The parent of the plan, each byte checked, for as long as `use` runs; a delete waits for it. Throws CHANGE_ID_MISMATCH where there is none. */
export async function withPushBase<T>(wanted: BaseWanted, job: JobContext, use: (base: PushBase) => Promise<T>): Promise<T> {
  const { environment, choice, vmContextId, diskId, plan, sinceChangeId } = wanted;
  const [parent] = plan.chain;
  const { row } = choice;
  if (!parent || !row) throw noParent(plan.type, sinceChangeId);
  const ids = plan.chain.map(({ backup_id }) => backup_id);
  return withReading(environment.catalog, readingOf(environment, row.id, ids, job), async () => {
    const { repository } = await environment.repositories.openRepository(row, job.logger, job.signal);
    try {
      const opened = await repository.openBackup({ vmContextId, diskId }, parent.backup_id, ids);
      try {
        if (opened.sidecar.content_root !== parent.content_root) throw noParent(plan.type, sinceChangeId);
        const disk = checkedReader(opened, await loadBlake3());
        try {
          return await use({ backupId: parent.backup_id, disk });
        } finally {
          await disk.close();
        }
      } finally {
        await opened.close();
      }
    } finally {
      await repository.close();
    }
  });
}

function noParent(type: string, sinceChangeId: string): ChainkeepError {
  const message = `it would be a ${type} backup: there is no backup with the change id ${JSON.stringify(sinceChangeId)} to stand on`;
  return new ChainkeepError('CHANGE_ID_MISMATCH', message, {
    advice: 'leave --since-change-id away and push all of the disk',
  });
}
