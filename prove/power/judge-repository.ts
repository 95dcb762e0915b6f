// Judges the repository of a crash state in this process: every backup that is there is whole, bit for bit, and the next backup works.
// It does not know which backups must be there: the campaign does.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { silentLogger } from '../../src/plumbing/logger.ts';
import { diskFolder, MARKER_NAME } from '../../src/repository/layout.ts';
import { openRepository, type Repository } from '../../src/repository/repository.ts';
import { openLocalStore } from '../../src/store/local/local-store.ts';
import { bytesSource } from '../../test/repository/model-disk.ts';
import { findDamage, heldGuard, requestFor, restoredBytes } from '../../test/repository/scratch-repository.ts';
import type { DiskState } from './crash-state.ts';
import type { Story } from './story.ts';
import { writeState } from './write-state.ts';

export interface JudgedRepository {
  /** Whom the marker names, where there is a repository. */
  readonly owner: string | undefined;
  /** Backups that are there and whole, or said to be there. */
  readonly committed: readonly string[];
  readonly faults: readonly string[];
}

const ABSENT: JudgedRepository = { owner: undefined, committed: [], faults: [] };

/** `part`: where in the state the repository lies, with a slash behind it. The folder is used up. */
export async function judgeRepository(story: Story, state: DiskState, part: string, folder: string): Promise<JudgedRepository> {
  const marker = state.files.get(part + MARKER_NAME);
  // A repository that was never finished may be nothing yet; whether it may, the campaign asks.
  if (!marker) return ABSENT;
  writeState(folder, state, part);
  const found = parseOwner(marker.bytes);
  if (!found) return { ...ABSENT, faults: ['the marker is damaged'] };
  const store = await openLocalStore(folder, { create: false });
  const options = { store, clock: systemClock, logger: silentLogger, repositoryId: found.repositoryId, installationId: found.owner };
  const repository = await openRepository(options);
  try {
    const judged = await judgeBackups(story, repository, `${folder}.out`);
    return { owner: found.owner, committed: judged.committed, faults: [...judged.faults, ...(await judgeNext(story, repository, folder))] };
  } finally {
    await repository.close();
  }
}

/** The seal is the product's to check; this is for what the state itself says. */
function parseOwner(bytes: Buffer): { readonly owner: string; readonly repositoryId: string } | undefined {
  const text = bytes.toString();
  const owner = /"owner": "([a-z0-9-]+)"/.exec(text)?.[1];
  const repositoryId = /"repository_id": "([a-z0-9-]+)"/.exec(text)?.[1];
  return owner === undefined || repositoryId === undefined ? undefined : { owner, repositoryId };
}

async function judgeBackups(story: Story, repository: Repository, target: string): Promise<{ committed: string[]; faults: string[] }> {
  const place = { vmContextId: story.vmContextId, diskId: 0 };
  const folder = await repository.readDisk(place);
  const faults = [...folder.damaged].map(([id, { message }]) => `backup ${id} is damaged: ${message}`);
  for (const quick of [true, false])
    for (const damage of await findDamage(repository, { quick, place })) faults.push(`verify: ${damage.backupId}: ${damage.message}`);
  const committed = folder.sidecars.map((sidecar) => sidecar.backup_id);
  for (const id of committed) {
    const told = story.backups.find((backup) => backup.id === id);
    if (!told) faults.push(`backup ${id} was never taken`);
    else if (!(await restoresTo(repository, story, id, told.disk, target))) faults.push(`backup ${id} restores to something else`);
  }
  return { committed, faults };
}

async function restoresTo(repository: Repository, story: Story, id: string, disk: Buffer, target: string): Promise<boolean> {
  const restored = await restoredBytes(repository, id, target, { vmContextId: story.vmContextId, diskId: 0 });
  return restored.equals(disk);
}

/** As the backup job does it: what a dead run has left goes first. */
async function judgeNext(story: Story, repository: Repository, folder: string): Promise<string[]> {
  const place = { vmContextId: story.vmContextId, diskId: 0 };
  try {
    await repository.removeRubbish(place, heldGuard(), async () => 'dead');
    const change = { place, compression: 'zstd' } as const;
    const request = requestFor(openRawReader(bytesSource(story.nextDisk)), change);
    const { sidecar } = await repository.runBackup(request, await repository.planBackup(request), { guard: heldGuard() });
    const faults = (await findDamage(repository, { place, only: [sidecar.backup_id] })).map(({ message }) => `the next backup: ${message}`);
    if (!(await restoresTo(repository, story, sidecar.backup_id, story.nextDisk, `${folder}.out`)))
      faults.push('the next backup restores to something else');
    return [...faults, ...(await rubbishIn(repository, place, folder))];
  } catch (error) {
    return [`the next backup fails: ${error instanceof Error ? error.stack : String(error)}`];
  }
}

/** Files of the disk that belong to no backup. */
export async function rubbishIn(repository: Repository, place: { vmContextId: string; diskId: number }, folder: string): Promise<string[]> {
  const { sidecars } = await repository.readDisk(place);
  const path = join(folder, diskFolder(place));
  const names = existsSync(path) ? readdirSync(path) : [];
  return names
    .filter((name) => !sidecars.some(({ backup_id: id }) => name.startsWith(`${id}.`) && !name.includes('.tmp-')))
    .map((name) => `${name} is left over`);
}

/** All of the program's own repository that is there now, whatever is to be thought of it. */
export async function judgeFolder(
  story: Story,
  folder: string,
  more: ReadonlyMap<string, Buffer>,
): Promise<{ committed: string[]; faults: string[] }> {
  const found = parseOwner(readFileSync(join(folder, MARKER_NAME)));
  if (!found) return { committed: [], faults: ['the marker is damaged'] };
  const store = await openLocalStore(folder, { create: false });
  const options = { store, clock: systemClock, logger: silentLogger, repositoryId: found.repositoryId, installationId: found.owner };
  const repository = await openRepository(options);
  const committed: string[] = [];
  const faults: string[] = [];
  for (const place of await repository.listDisks()) {
    for (const { backup_id: id } of (await repository.readDisk(place)).sidecars) {
      committed.push(id);
      const disk = more.get(id) ?? story.backups.find((backup) => backup.id === id)?.disk;
      const restored = await restoredBytes(repository, id, `${folder}.out`, place);
      if (!disk || !restored.equals(disk)) faults.push(`backup ${id} restores to something else`);
    }
    faults.push(...(await rubbishIn(repository, place, folder)));
  }
  await repository.close();
  return { committed, faults };
}
