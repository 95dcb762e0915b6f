// The self-test of a repository that is registered: on its bare store, so that no limit of ours is measured.
// It must not touch what other self-tests write at this moment.

import type { BackupRepository } from '../catalog/backup-repositories.ts';
import { type SelfTestStep, selfTest } from '../store/self-test.ts';
import { currentOwner } from './owner.ts';
import { openStoreOf, type RepositoryContext } from './repository-context.ts';
import { removeSelfTestLeftovers, selfTestName } from './self-test-leftovers.ts';

export async function testRepository(
  context: RepositoryContext,
  row: BackupRepository,
  { retention }: { readonly retention: boolean },
): Promise<readonly SelfTestStep[]> {
  const { catalog, clock } = context;
  const store = await openStoreOf(context, row);
  try {
    const owner = await currentOwner(catalog);
    await removeSelfTestLeftovers(store, owner, clock);
    return await selfTest(store, { clock, name: selfTestName(owner), immutable: row.is_immutable, retention });
  } finally {
    await store.close();
  }
}
