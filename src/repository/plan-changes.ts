// Does what the source says of its changes hold for this backup? Only a list that starts at the parent's own mark does.
// Nothing is read here but the list; where it is of no use, the reason is part of the plan.

import type { ChangeList, ChangeTracking } from '../disk/change-list.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import { type ChangedClusters, readChangedClusters } from '../transfer/changed-clusters.ts';
import type { ParentChoice } from './chain-rules.ts';
import type { Sidecar } from './sidecar-fields.ts';

/** Why what is read is read. */
export interface ChangesChoice {
  readonly list?: ChangeList;
  readonly reason: string;
  /** A list was meant to be used and is not: a person should see it. */
  readonly isMissed: boolean;
}

/** Throws CHANGE_ID_MISMATCH where the source tells changes since another mark, and somebody counts on it. */
export function chooseChanges(tracking: ChangeTracking | undefined, choice: ParentChoice): ChangesChoice {
  if (choice.type === 'full') {
    const reason = tracking
      ? `a full backup reads all of the disk, and ${tracking.name} is not used`
      : 'a full backup reads all of the disk';
    return { reason, isMissed: false };
  }
  const { parent, type } = choice;
  const whole = 'all of the disk is read and compared';
  if (!tracking) return { reason: `the source does not tell what changed: ${whole}`, isMissed: false };
  // Another run may have backed the disk up while this one waited for its turn.
  const isNewer = Date.parse(parent.started_at) > (tracking.asOf ?? Number.POSITIVE_INFINITY);
  const list = parent.change_id === null || isNewer ? undefined : tracking.since(parent.change_id, parent.backup_id);
  if (list) return { list, reason: `only what ${list.name} tells as changed since ${parent.backup_id} is read`, isMissed: false };
  const why = `${tracking.name} does not tell what changed since ${parentName(type, parent)}${isNewer ? ', and was begun later' : ''}`;
  if (tracking.otherwise === 'compare') return { reason: `${why}: ${whole}`, isMissed: true };
  throw new ChainkeepError('CHANGE_ID_MISMATCH', why, {
    advice:
      type === 'differential'
        ? 'a differential needs what changed since the full; ask the source for that, or leave the list away to compare all of the disk'
        : "ask the source for what changed since the parent's change id, or leave the list away to compare all of the disk",
    context: { parent_backup_id: parent.backup_id, parent_change_id: parent.change_id ?? undefined },
  });
}

function parentName(type: string, { backup_id: id, change_id: mark }: Sidecar): string {
  const backup = type === 'differential' ? `the full ${id}` : `backup ${id}`;
  return mark === null ? `${backup}, which was kept without a change id` : `${backup}, which has the change id ${JSON.stringify(mark)}`;
}

export interface ChangesSize {
  readonly clusterSize: number;
  readonly totalBytes: number;
  readonly signal?: AbortSignal | undefined;
}

/** The clusters that a backup on `parent` looks at; undefined where it looks at all of them. */
export async function readChanges(
  { list }: ChangesChoice,
  parent: Sidecar | undefined,
  size: ChangesSize,
): Promise<ChangedClusters | undefined> {
  if (!list || !parent) return undefined;
  return readChangedClusters(list.changed(), { ...size, parentBytes: parent.total_bytes });
}
