// A process for the fallbacks: backs up two states of a disk, restores and verifies them, and prints what it recorded, as JSON.
// Arguments: the repository's folder, then two raw files. Run it with CHAINKEEP_NATIVE=off and without.

import { rmSync } from 'node:fs';
import { createFileWriter } from '../../src/disk/file-writer.ts';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { openFileSource } from '../../src/plumbing/file-source.ts';
import { silentLogger } from '../../src/plumbing/logger.ts';
import { loadNative } from '../../src/plumbing/native.ts';
import type { BackupRequest } from '../../src/repository/create-backup.ts';
import { claimRepository, openRepository } from '../../src/repository/repository.ts';
import { restoreBackup } from '../../src/repository/restore-backup.ts';
import { openLocalStore } from '../../src/store/local/local-store.ts';

export interface FallbackReport {
  readonly native: boolean;
  readonly damage: number;
  readonly backups: readonly {
    readonly id: string;
    readonly content_root: string;
    readonly digests: string;
    readonly structure: string;
    readonly clusters: number;
  }[];
}

const [root = '', ...disks] = process.argv.slice(2);
const store = await openLocalStore(root, { create: true });
const { repository_id: repositoryId } = await claimRepository({ store, clock: systemClock, installationId: 'i', takeOver: false });
const repository = await openRepository({ store, clock: systemClock, logger: silentLogger, repositoryId, installationId: 'i' });
const guard = { signal: new AbortController().signal, assertHeld: async () => undefined };
const backups: FallbackReport['backups'][number][] = [];

async function take(place: { vmContextId: string; diskId: number }, path: string, compression: 'none' | 'zstd'): Promise<void> {
  const reader = openRawReader(await openFileSource(path));
  const request: BackupRequest = {
    place,
    vmName: 'a VM',
    externalId: null,
    restorePointId: 'r',
    type: 'auto',
    compression,
    clusterSize: 4096,
    changeId: null,
    policyId: null,
    reader,
    sourceKind: 'file',
    checkSource: async () => undefined,
    metadata: {},
    damaged: new Set(),
  };
  const { sidecar, clustersWritten } = await repository.runBackup(request, await repository.planBackup(request), { guard });
  await reader.close();
  const { backup_id: id, content_root, digests } = sidecar;
  backups.push({ id, content_root, digests: digests.root, structure: digests.structure, clusters: clustersWritten });
  const opened = await repository.openBackup(place, id);
  const target = `${root}-${id}.raw`;
  rmSync(target, { force: true });
  await restoreBackup(opened, await createFileWriter(target, { size: opened.reader.size, replace: false }), 'raw', {});
  await opened.close();
}

let damage = 0;
for (const [diskId, compression] of (['none', 'zstd'] as const).entries()) {
  const place = { vmContextId: 'vm-a', diskId };
  for (const path of disks) await take(place, path, compression);
  for await (const verified of repository.verifyDisk(place, { quick: false })) damage += verified.damage.length;
}
const report: FallbackReport = { native: loadNative() !== undefined, damage, backups };
process.stdout.write(JSON.stringify(report));
