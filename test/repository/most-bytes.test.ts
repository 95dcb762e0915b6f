// The bound of a backup is one: no backup of any disk becomes larger than its plan says, and a sparse disk is not taken for a full one.

import { closeSync, ftruncateSync, openSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { openFileSource } from '../../src/plumbing/file-source.ts';
import { digestsFile, imageFile } from '../../src/repository/layout.ts';
import { changeDisk, noiseBytes, randomNumbers, writeDisk } from './model-disk.ts';
import { scratchFolder } from './scratch-folder.ts';
import { heldGuard, makeRepository, requestFor } from './scratch-repository.ts';

const scratch = scratchFolder();
const KIB = 1024;

it.each([
  { clusterSize: 512, size: 900 * KIB + 77, compression: 'none' },
  { clusterSize: 4096, size: 3000 * KIB + 1, compression: 'zstd' },
  { clusterSize: 65_536, size: 40_000 * KIB, compression: 'none' },
  { clusterSize: 65_536, size: 9000 * KIB, compression: 'zstd' },
  { clusterSize: 2048 * KIB, size: 30_000 * KIB, compression: 'none' },
] as const)('clusters of $clusterSize, $size bytes, $compression: fulls and incrementals stay below it', async (shape) => {
  const { clusterSize, size, compression } = shape;
  const { repository, folder } = await makeRepository(scratch(`repository-${clusterSize}-${compression}`));
  const random = randomNumbers(size);
  const path = scratch(`disk-${clusterSize}-${compression}`);
  const disk = Buffer.alloc(size);
  for (let round = 0; round < 5; round += 1) {
    changeDisk(disk, 8, 64 * KIB, random);
    writeDisk(path, disk, round % 2 === 0);
    const source = await openFileSource(path);
    const request = requestFor(openRawReader(source), { clusterSize, compression });
    const plan = await repository.planBackup(request);
    const { sidecar } = await repository.runBackup(request, plan, { guard: heldGuard() });
    await source.close();
    const digests = statSync(join(folder, digestsFile(plan.backupId, 1))).size;
    expect(statSync(join(folder, imageFile(plan.backupId))).size).toBe(sidecar.size_bytes);
    expect(sidecar.size_bytes, `round ${round}`).toBeLessThanOrEqual(plan.mostBytes);
    expect(sidecar.size_bytes + digests, `round ${round}`).toBeLessThanOrEqual(plan.mostStoredBytes);
  }
});

it('a full of a disk of noise takes nearly all of it, and one of a sparse disk next to nothing', async () => {
  const { repository } = await makeRepository(scratch('repository'));
  const path = scratch('sparse');
  const file = openSync(path, 'w');
  const noise = noiseBytes(3 * 65_536, randomNumbers(1));
  ftruncateSync(file, 2 ** 40);
  writeSync(file, noise, 0, noise.length, 2 ** 39);
  const source = await openFileSource(path);
  const sparse = await repository.planBackup(requestFor(openRawReader(source)));
  await source.close();
  closeSync(file);
  // Its head, which maps a TiB, three clusters, a table and what counts them.
  expect(sparse.mostBytes).toBeLessThan(sparse.layout.headLength + 10 * 65_536);
  expect(sparse.mostStoredBytes - sparse.mostBytes).toBeLessThan(1024 * KIB);
});
