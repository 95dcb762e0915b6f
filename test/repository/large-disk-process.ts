// A process of its own for one piece of work on a disk of 16 TiB with scattered data; prints how much memory it ever had, as JSON.
// Arguments: a scratch folder, the number of extents, and `make`, `backup`, `change`, `restore` or `verify`.

import { closeSync, ftruncateSync, openSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { createFileWriter } from '../../src/disk/file-writer.ts';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { openFileSource } from '../../src/plumbing/file-source.ts';
import { silentLogger } from '../../src/plumbing/logger.ts';
import type { BackupRequest } from '../../src/repository/create-backup.ts';
import { claimRepository, openRepository, type Repository } from '../../src/repository/repository.ts';
import { restoreBackup } from '../../src/repository/restore-backup.ts';
import { openLocalStore } from '../../src/store/local/local-store.ts';

export interface LargeDiskReport {
  readonly mebibytes: number;
  readonly clusters?: number;
  readonly damage?: number;
  readonly restored?: { readonly size: number; readonly bytes: number };
}

const [folder = '', extents = '0', work = ''] = process.argv.slice(2);
const SIZE = 16 * 2 ** 40;
const count = Number(extents);
const step = Math.floor(SIZE / count / 4096) * 4096;
const path = join(folder, 'disk.raw');
const place = { vmContextId: 'large', diskId: 0 };

function write(every: number, text: string): void {
  const fd = openSync(path, 'a+');
  closeSync(fd);
  const disk = openSync(path, 'r+');
  ftruncateSync(disk, SIZE);
  for (let index = 0; index < count; index += every) writeSync(disk, `${text} ${index}`, index * step + (index % 1000));
  closeSync(disk);
}

async function open(): Promise<Repository> {
  const store = await openLocalStore(join(folder, 'repository'), { create: true });
  const { repository_id: repositoryId } = await claimRepository({ store, clock: systemClock, installationId: 'i', takeOver: false });
  return openRepository({ store, clock: systemClock, logger: silentLogger, repositoryId, installationId: 'i' });
}

async function backUp(repository: Repository): Promise<number> {
  const reader = openRawReader(await openFileSource(path));
  const request: BackupRequest = {
    place,
    vmName: 'large',
    externalId: null,
    restorePointId: 'r',
    type: 'auto',
    compression: 'none',
    changeId: null,
    policyId: null,
    reader,
    sourceKind: 'file',
    checkSource: async () => undefined,
    metadata: {},
    damaged: new Set(),
  };
  const guard = { signal: new AbortController().signal, assertHeld: async () => undefined };
  const { clustersWritten } = await repository.runBackup(request, await repository.planBackup(request), { guard });
  await reader.close();
  return clustersWritten;
}

async function restore(repository: Repository): Promise<LargeDiskReport['restored']> {
  const { sidecars } = await repository.readDisk(place);
  const opened = await repository.openBackup(place, sidecars.at(-1)?.backup_id ?? '');
  const target = join(folder, 'restored.raw');
  await restoreBackup(opened, await createFileWriter(target, { size: SIZE, replace: true }), 'raw', {});
  await opened.close();
  const { size, blocks } = statSync(target);
  return { size, bytes: blocks * 512 };
}

async function verify(repository: Repository): Promise<number> {
  let damage = 0;
  for await (const verified of repository.verifyDisk(place, { quick: false })) damage += verified.damage.length;
  return damage;
}

async function run(): Promise<Omit<LargeDiskReport, 'mebibytes'>> {
  if (work === 'make' || work === 'change') write(work === 'make' ? 1 : 100, work);
  if (work === 'backup') return { clusters: await backUp(await open()) };
  if (work === 'restore') return { restored: await restore(await open()) };
  if (work === 'verify') return { damage: await verify(await open()) };
  return {};
}

const report = await run();
process.stdout.write(JSON.stringify({ ...report, mebibytes: process.resourceUsage().maxRSS / 1024 }));
