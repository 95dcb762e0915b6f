// The repository in this process, through its public functions: fast enough for long chains, and for disks that no file holds.

import { isChainkeepError } from '../../src/plumbing/errors.ts';
import { openSource } from '../../src/source/open-source.ts';
import {
  backUp,
  findDamage,
  heldGuard,
  makeRepository,
  PLACE,
  restoreTo,
  type TestRepository,
} from '../../test/repository/scratch-repository.ts';
import type { Keeper, Kept } from './keeper.ts';
import type { Choice } from './known-chains.ts';
import { FILE_KINDS, MEMORY_KINDS, type Source } from './written-sources.ts';

export async function openRepositoryKeeper(root: string): Promise<Keeper> {
  const test = await makeRepository(root);
  return {
    kinds: [...FILE_KINDS, ...MEMORY_KINDS],
    root,
    diskFolder: () => test.folder,
    backUp: (source, choice) => keep(test, source, choice),
    restore: (id, target, format) => restoreTo(test.repository, id, target, format),
    remove: async (id) => {
      try {
        await test.repository.runDelete(await test.repository.planDelete(PLACE, id), heldGuard());
        return undefined;
      } catch (error) {
        if (isChainkeepError(error)) return error.code;
        throw error;
      }
    },
    findDamage: async () => {
      const found = [...(await findDamage(test.repository)), ...(await findDamage(test.repository, { quick: true }))];
      return found.map(({ backupId, code, message }) => `${backupId}: ${code}: ${message}`);
    },
  };
}

async function keep({ repository }: TestRepository, source: Source, choice: Choice): Promise<Kept> {
  const { type, compression, clusterSize } = choice;
  const opened = 'path' in source ? await openSource(source) : { ...source, checkUnchanged: async () => undefined };
  try {
    const request = { type, compression, ...(clusterSize && { clusterSize }), checkSource: () => opened.checkUnchanged() };
    const { sidecar, clustersWritten } = await backUp(repository, opened.reader, request);
    return { id: sidecar.backup_id, type: sidecar.backup_type, parent: sidecar.parent_backup_id, clustersWritten };
  } finally {
    await opened.reader.close();
  }
}
