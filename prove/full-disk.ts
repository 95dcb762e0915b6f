// Campaign "full-disk": a small file system with 64 KiB more room in each case, until a backup or a restore fits on it.
// The repository, the home, both of them or the target of a restore lie on it. Without the right to mount it has nothing to do, and says so.

import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Campaign, Trial } from './campaign.ts';
import {
  backupInput,
  type Compression,
  FILE_SYSTEMS,
  type FileSystem,
  openScene,
  type Place,
  removeTargets,
  type Scene,
} from './full-disk/scene.ts';
import { attempt, completedBackups, judgeJobs } from './judge.ts';
import { withMemoryFolder } from './memory-folder.ts';
import type { Ended } from './user.ts';

const STEP = 64 << 10;
/** So much room is more than enough for what is backed up or restored (1.15 MB, the database beside it). */
const STEPS = 32;

interface Setting {
  readonly fileSystem: FileSystem;
  readonly place: Place;
  /** Of the backup; a restore goes to a raw file or a QCOW2 image. */
  readonly way: Compression | 'raw' | 'qcow2';
}

const WAYS: readonly (readonly [Place, Setting['way']])[] = [
  ['repository', 'none'],
  ['repository', 'zstd'],
  ['home', 'zstd'],
  ['both', 'none'],
  ['both', 'zstd'],
  ['target', 'raw'],
  ['target', 'qcow2'],
];

const SETTINGS: readonly Setting[] = FILE_SYSTEMS.flatMap((fileSystem) => WAYS.map(([place, way]) => ({ fileSystem, place, way })));

export const fullDisk: Campaign = {
  name: 'full-disk',
  about:
    'a disk that is full at every 64 KiB of a backup or a restore: a clear error with both sizes, the room given back, all earlier good',
  small: 14,
  large: SETTINGS.length * STEPS,
  run: (trial) => withMemoryFolder((folder) => runAll(trial, folder)),
};

async function runAll(trial: Trial, folder: string): Promise<void> {
  const figures = { refused: 0, fitted: 0 };
  const numbers = Map.groupBy(trial.cases(SETTINGS.length * STEPS), (number) => Math.floor(number / STEPS));
  for (const [index, cases] of numbers) {
    const setting = SETTINGS[index];
    if (!setting) throw new RangeError(`there are ${SETTINGS.length * STEPS} cases`);
    const scene = await openScene(join(folder, `scene-${index}`), setting.fileSystem, setting.place, trial.random(index));
    if (typeof scene === 'string') {
      trial.note(`left out: ${setting.fileSystem} under the ${setting.place}: ${scene}`);
      continue;
    }
    try {
      for (const number of cases) {
        const left = (number % STEPS) * STEP;
        const found = await attempt('unexpected', () => runCase(scene, setting, left, figures));
        scene.leave(undefined);
        trial.ran(
          number,
          found.map((fault) => `${setting.fileSystem} under the ${setting.place}, ${setting.way}, ${left} bytes left: ${fault}`),
        );
      }
    } finally {
      scene.close();
      rmSync(join(folder, `scene-${index}`), { recursive: true, force: true });
    }
  }
  trial.note(`${figures.refused} refused, ${figures.fitted} fitted`);
}

async function runCase(
  scene: Scene,
  setting: Setting,
  left: number,
  figures: { refused: number; fitted: number },
): Promise<readonly string[]> {
  removeTargets(scene);
  scene.leave(left);
  const before = scene.available();
  const ended = await attack(scene, setting);
  const succeeded = ended.code === 0;
  figures[succeeded ? 'fitted' : 'refused'] += 1;
  const faults = succeeded ? [] : judgeFailure(scene, ended, before);
  if (succeeded && left === 0) faults.push('it fitted where there was no room at all');
  if (!succeeded && left === (STEPS - 1) * STEP) faults.push(`there was room, and it failed: ${ended.stderr}`);
  scene.leave(undefined);
  return [...faults, ...(await judgeAfter(scene, setting, succeeded))];
}

/** In a process of its own, as a user has it: what a full database cannot release ends with the process. */
function attack({ user, source, targets, earlier }: Scene, { way }: Setting): Promise<Ended> {
  return way === 'none' || way === 'zstd'
    ? user.run('backup', source, '--vm', 'vm', '--type', 'full', '--compression', way, '--json')
    : user.run('restore', earlier, join(targets, 'out'), '--format', way, '--json');
}

function judgeFailure({ place, available, targets }: Scene, { code, signal, stdout, stderr }: Ended, before: number): string[] {
  const said = `${stderr.trim()} ${stdout.trim()}`;
  if (code !== 1) return [`ended with ${code ?? signal}: ${said}`];
  const faults: string[] = [];
  const lines = stderr.split('\n').filter((line) => line !== '');
  const count = (start: string): number => lines.filter((line) => line.startsWith(start)).length;
  if (count('error: ') !== 1 || count('advice: ') !== 1 || count('note: ') !== lines.length - 2)
    faults.push(`not one line of error and one of advice: ${said}`);
  const { error_code: errorCode, required_bytes: required, available_bytes: free, advice } = JSON.parse(stdout);
  const withDatabase = place === 'home' || place === 'both';
  const ofDatabase = errorCode === 'CATALOG_FAILED' && withDatabase;
  // SQLite does not say how much it wanted.
  if (ofDatabase && !/full/.test(advice)) faults.push(`does not say that the disk is full: ${said}`);
  if (!ofDatabase && errorCode !== 'INSUFFICIENT_STORAGE') faults.push(`another error than INSUFFICIENT_STORAGE: ${said}`);
  const bothNumbers = typeof required === 'number' && typeof free === 'number' && free < required;
  if (!ofDatabase && !bothNumbers) faults.push(`not both numbers, or they do not say why: ${said}`);
  // The database may keep what its log has grown by; everything else gives all of it back.
  if (!withDatabase && available() < before) faults.push(`${before - available()} bytes were not given back`);
  if (readdirSync(targets).length > 0) faults.push(`a restore that failed has left ${readdirSync(targets).join(', ')}`);
  return faults;
}

/** With room again: everything is good without anybody's help, and another backup works. */
async function judgeAfter(scene: Scene, { way }: Setting, succeeded: boolean): Promise<readonly string[]> {
  const { app, earlier, source, targets, disk } = scene;
  const isBackup = way === 'none' || way === 'zstd';
  const faults: string[] = [];
  if (!isBackup && succeeded && way === 'raw' && !readFileSync(join(targets, 'out')).equals(disk))
    faults.push('a restore ended well with other content');
  removeTargets(scene);
  await app(async (opened) => {
    faults.push(...(await judgeJobs(opened)));
    await opened.backup({ ...backupInput(source, 'zstd'), type: 'auto' }, {});
    const ids = (await completedBackups(opened)).map(({ backup_id: id }) => id);
    // What a run has committed and could not enter in the catalog may count as well.
    if (!ids.includes(earlier) || ids.length < 2 + (isBackup && succeeded ? 1 : 0)) faults.push(`${ids.length} backups are left`);
    const { damaged, checked } = await opened.verify({ repository: 'default', quick: false }, {});
    if (damaged.length > 0 || checked !== ids.length)
      faults.push(`verify of ${checked}, ${ids.length} expected: ${JSON.stringify(damaged)}`);
    for (const id of ids) {
      const target = join(targets, id);
      await opened.restore({ backup: id, target, format: 'raw', force: false, dry_run: false }, {});
      if (!readFileSync(target).equals(disk)) faults.push(`${id} restores with other content`);
      rmSync(target);
    }
    faults.push(...(await judgeFilesAndForget(opened, scene, ids)));
  });
  return faults;
}

/** Three files for each backup and the marker; then only the earlier backup is left, for the next case. */
async function judgeFilesAndForget(
  opened: Parameters<Parameters<Scene['app']>[0]>[0],
  scene: Scene,
  ids: readonly string[],
): Promise<readonly string[]> {
  const [repository] = await opened.listRepositories();
  const files = readdirSync(repository?.place ?? '', { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const faults =
    files.length === 3 * ids.length + 1
      ? []
      : [`${files.length} files for ${ids.length} backups: ${files.map(({ name }) => name).join(', ')}`];
  for (const id of ids.toSorted().toReversed()) if (id !== scene.earlier) await opened.deleteBackup(id, { dry_run: false }, {});
  return faults;
}
