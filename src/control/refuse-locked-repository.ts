// The refusal to forget a repository, or to weaken its settings, while backups in it are locked or held.
// It must not believe a clock that jumped: then every date counts as not over.

import type { BackupRepository } from '../catalog/backup-repositories.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { countHeldBackups } from '../catalog/holds.ts';
import { countProtected } from '../catalog/protected-backups.ts';
import { isoTime } from '../plumbing/clock.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import type { LockTime } from '../repository/lock-rules.ts';

/** Throws HOLD_ACTIVE, IMMUTABLE_RETENTION_ACTIVE or CLOCK_JUMPED. By the catalog: the place may be gone. */
export async function refuseLockedRepository(catalog: Catalog, row: BackupRepository, time: LockTime): Promise<void> {
  const holds = await countHeldBackups(catalog, row.id);
  const locked = await countProtected(catalog, row.id, time.expireAt === undefined ? undefined : isoTime(time.expireAt));
  const until = locked.latest;
  const context = {
    repository: row.name,
    repository_id: row.id,
    held_backups: holds,
    locked_backups: locked.count,
    ...(until !== null && { retention_expires_at: until }),
  };
  if (locked.count > 0 && time.expireAt === undefined) {
    throw new ChainkeepError('CLOCK_JUMPED', `backups of repository ${row.name} have locks, and nothing expires now: ${time.problem}`, {
      advice: 'set the clock right; if it is right, confirm it with: chainkeep clock confirm',
      context,
    });
  }
  if (locked.count > 0) {
    throw new ChainkeepError(
      'IMMUTABLE_RETENTION_ACTIVE',
      `${locked.count} backup${locked.count > 1 ? 's' : ''} of repository ${row.name} ${locked.count > 1 ? 'are' : 'is'} locked, the last one until ${until}`,
      { advice: `to use it no more, disable it: chainkeep repo update ${row.name} --disable`, context },
    );
  }
  if (holds === 0) return;
  throw new ChainkeepError(
    'HOLD_ACTIVE',
    `${holds} backup${holds > 1 ? 's' : ''} of repository ${row.name} ${holds > 1 ? 'are' : 'is'} held`,
    {
      advice: 'see who holds them, and why: chainkeep hold list',
      context,
    },
  );
}

/** For settings that would protect less: the repository itself is asked, which knows more than a catalog that was made anew. */
export function refuseWeaker(row: BackupRepository, latest: number | undefined, { expireAt, problem }: LockTime): void {
  if (latest === undefined || (expireAt !== undefined && latest <= expireAt)) return;
  const context = { repository: row.name, repository_id: row.id, retention_expires_at: isoTime(latest) };
  const why = expireAt === undefined ? `nothing expires now: ${problem}` : 'its backups are locked';
  throw new ChainkeepError(
    expireAt === undefined ? 'CLOCK_JUMPED' : 'IMMUTABLE_RETENTION_ACTIVE',
    `the settings of immutability of ${row.name} cannot be lowered before ${isoTime(latest)}: ${why}`,
    { advice: 'they can be raised at any time; for lower ones register another repository', context },
  );
}
