// A backup whose files are good and are not those that the catalog knows: an older generation, put back whole. Only the catalog can tell.

import type { BackupJob } from '../../catalog/backup-jobs.ts';
import { ChainkeepError } from '../../plumbing/errors.ts';

/** `contentRoot`: of its sidecar, null where that cannot be read. It stays the same whatever is done to a backup, so another one is another backup. */
export function findReplaced(row: BackupJob | undefined, contentRoot: string | null): ChainkeepError | undefined {
  if (!row || row.content_root === null || contentRoot === null || row.content_root === contentRoot) return undefined;
  return new ChainkeepError('CHAIN_CORRUPT', `backup ${row.id} in the repository has another content than the one that was taken`, {
    advice: 'its files were replaced, by an older generation for one: bring them back from a copy',
    context: { backup_id: row.id, content_root: row.content_root, found: contentRoot },
  });
}
