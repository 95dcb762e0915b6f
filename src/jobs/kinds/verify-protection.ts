// What a verify says of locks and holds: files that cannot be read, and those that the catalog knows and the repository has lost.
// It must not change anything: what is lost counts as protected, here and for a delete.

import type { BackupJob } from '../../catalog/backup-jobs.ts';
import { listHolds } from '../../catalog/holds.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';
import { isActive } from '../../repository/protection.ts';
import type { Repository } from '../../repository/repository.ts';
import type { ListedDisk } from '../../repository/scan-disk.ts';
import type { NamedDamage } from '../../repository/verify-disk.ts';
import { damageOf } from '../../repository/verify-image.ts';
import type { JobEnvironment } from './job-environment.ts';

/** Listed after `expected` was read: a lock is written before its row says so. */
export async function findProtectionDamage(
  { catalog }: JobEnvironment,
  repository: Repository,
  { place, listed }: Pick<ListedDisk, 'place'> & Partial<ListedDisk>,
  expected: readonly BackupJob[],
): Promise<readonly NamedDamage[]> {
  const holds = await listHolds(
    catalog,
    expected.map(({ id }) => id),
  );
  const protections = await repository.locks.read(place, listed);
  return expected.flatMap(({ id, protected_until: until }) => {
    const found = protections.get(id);
    const errors = [...(found?.damage ?? [])];
    if (until !== null && until > (found?.lockedUntil ?? '')) errors.push(lost(id, `the lock until ${until} is not in the repository`));
    for (const hold of holds.filter(({ backup_id, lifted_at }) => backup_id === id && lifted_at === null)) {
      if (found?.holds.some((file) => isActive(file) && file.holdId === hold.id)) continue;
      // A damaged file stands there under another id, and is named by itself.
      if (!found?.damage.length) errors.push(lost(id, `the file of hold ${hold.id} is not in the repository, or says that it is lifted`));
    }
    return errors.map((error) => ({ ...damageOf(error), backupId: id, affects: [] }));
  });
}

function lost(backupId: string, what: string): ChainkeepError {
  return new ChainkeepError('PROTECTION_INVALID', `backup ${backupId}: ${what}; it counts as protected`, {
    advice: 'bring the file back from a copy',
    context: { backup_id: backupId },
  });
}
