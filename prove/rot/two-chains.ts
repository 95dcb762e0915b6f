// The repository that is damaged: two chains of one disk, one plain and one compressed, each a full, an incremental and a differential,
// so small that each of its bytes can be changed in turn. Beside it, every backup's files as an earlier life of the same id left them.

import { cpSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import type { Repository } from '../../src/repository/repository.ts';
import type { Sidecar } from '../../src/repository/sidecar-fields.ts';
import { bytesSource } from '../../test/repository/model-disk.ts';
import { backUp, heldGuard, makeRepository, requestFor } from '../../test/repository/scratch-repository.ts';
import { CLUSTER, makeSmallRepository } from '../../test/repository/small-repository.ts';
import { Random } from '../random.ts';

export interface TwoChains {
  readonly root: string;
  readonly open: () => Promise<Repository>;
  readonly sidecars: readonly Sidecar[];
  /** What each restore point reads as. */
  readonly disks: ReadonlyMap<string, Buffer>;
  /** Every file, by its path below the root. */
  readonly files: ReadonlyMap<string, Buffer>;
  /** The same paths with the files of an earlier life: same id, same parent, another content. */
  readonly older: ReadonlyMap<string, Buffer>;
  /** What the restore points of the earlier life read as. */
  readonly olderDisks: ReadonlyMap<string, Buffer>;
}

export async function makeTwoChains(root: string, seed: number): Promise<TwoChains> {
  const small = await makeSmallRepository(root, 'none', seed);
  const disks = new Map(small.disks);
  const sidecars = [...small.sidecars];
  const random = new Random(seed);
  for (const { backup_id: id, backup_type: type } of small.sidecars) {
    const disk = Buffer.from(small.disks.get(id) ?? Buffer.alloc(0));
    disk.set(random.bytes(100), CLUSTER * (type === 'full' ? 0 : 3));
    const { sidecar } = await backUp(small.repository, openRawReader(bytesSource(disk)), {
      type,
      compression: 'zstd',
      clusterSize: CLUSTER,
    });
    disks.set(sidecar.backup_id, disk);
    sidecars.push(sidecar);
  }
  const files = readFiles(root);
  const older = new Map<string, Buffer>();
  const olderDisks = new Map<string, Buffer>();
  for (const sidecar of sidecars) {
    const disk = Buffer.from(disks.get(sidecar.backup_id) ?? Buffer.alloc(0));
    disk.set(Buffer.alloc(80, 'an earlier life '), CLUSTER + 7);
    olderDisks.set(sidecar.backup_id, disk);
    for (const [path, bytes] of await earlierLife(root, sidecar, sidecars, disk)) older.set(path, bytes);
  }
  return { root, open: () => small.through(small.store), sidecars, disks, files, older, olderDisks };
}

/** The backup taken once more under the same id in a copy, of another disk. */
async function earlierLife(root: string, sidecar: Sidecar, sidecars: readonly Sidecar[], disk: Buffer): Promise<Map<string, Buffer>> {
  const copy = `${root}.${sidecar.backup_id}`;
  cpSync(root, copy, { recursive: true });
  const { repository } = await makeRepository(copy);
  const { backup_type: type } = sidecar;
  const request = requestFor(openRawReader(bytesSource(disk)), { type, compression: sidecar.qcow2.compression, clusterSize: CLUSTER });
  const plan = await repository.planBackup({ ...request, type: 'full' });
  const parent = sidecars.find(({ backup_id: id }) => id === sidecar.parent_backup_id);
  for (const path of readFiles(copy).keys()) if (path.includes(sidecar.backup_id)) rmSync(join(copy, path));
  await repository.runBackup(
    request,
    { ...plan, backupId: sidecar.backup_id, type, chain: parent ? [parent] : [] },
    { guard: heldGuard() },
  );
  return new Map([...readFiles(copy)].filter(([path]) => path.includes(sidecar.backup_id)));
}

export function readFiles(root: string, below = ''): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  for (const name of readdirSync(join(root, below)).sort()) {
    const path = join(below, name);
    if (statSync(join(root, path)).isDirectory()) for (const [inner, bytes] of readFiles(root, path)) files.set(inner, bytes);
    else files.set(path, readFileSync(join(root, path)));
  }
  return files;
}
