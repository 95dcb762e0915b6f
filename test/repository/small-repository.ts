// A repository so small that every one of its bytes can be damaged in turn: a full, an incremental and a differential of a disk
// of a few clusters of 512 bytes, whose size is odd.

import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import type { Sidecar } from '../../src/repository/sidecar-fields.ts';
import { bytesSource, noiseBytes, type Random, randomNumbers, textBytes } from './model-disk.ts';
import { backUp, makeRepository, type TestRepository } from './scratch-repository.ts';

export const CLUSTER = 512;

export interface SmallRepository extends TestRepository {
  readonly full: Sidecar;
  readonly incremental: Sidecar;
  readonly differential: Sidecar;
  readonly sidecars: readonly Sidecar[];
  /** What each restore point reads as, by backup id. */
  readonly disks: ReadonlyMap<string, Buffer>;
  /** Puts every file of the disk back as it was. */
  heal(): void;
}

/**
 * Clusters of the disk: 0 text (full), 1 noise (full), 2 text, changed by the incremental, 3 text, made zero by the incremental,
 * 4 noise, changed by the differential, 5 never there, 6 a part of a cluster: text, longer in the differential, which grew.
 */
export async function makeSmallRepository(root: string, compression: 'none' | 'zstd', seed = 1): Promise<SmallRepository> {
  const test = await makeRepository(root);
  const random: Random = randomNumbers(seed);
  const text = (clusters = 1): Buffer => textBytes(clusters * CLUSTER, random);
  const noise = (): Buffer => noiseBytes(CLUSTER, random);
  const first = Buffer.concat([text(), noise(), text(), text(), noise(), Buffer.alloc(CLUSTER), textBytes(201, random)]);
  const second = Buffer.from(first);
  second.set(text(), 2 * CLUSTER);
  second.fill(0, 3 * CLUSTER, 4 * CLUSTER);
  const third = Buffer.alloc(first.length + 90);
  first.copy(third);
  third.set(noise(), 4 * CLUSTER);
  const disks = new Map<string, Buffer>();
  const take = async (disk: Buffer, type: 'full' | 'incremental' | 'differential'): Promise<Sidecar> => {
    const { sidecar } = await backUp(test.repository, openRawReader(bytesSource(disk)), { type, compression, clusterSize: CLUSTER });
    disks.set(sidecar.backup_id, disk);
    return sidecar;
  };
  const full = await take(first, 'full');
  const incremental = await take(second, 'incremental');
  const differential = await take(third, 'differential');
  const copy = `${root}.copy`;
  cpSync(test.folder, copy, { recursive: true });
  const heal = (): void => {
    rmSync(test.folder, { recursive: true, force: true });
    mkdirSync(test.folder, { recursive: true });
    for (const name of readdirSync(copy)) writeFileSync(join(test.folder, name), readFileSync(join(copy, name)));
  };
  return { ...test, full, incremental, differential, sidecars: [full, incremental, differential], disks, heal };
}
