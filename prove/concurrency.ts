// Several processes back up, verify, restore and delete in one repository at random; one of them is stopped past its lease and continued.
// A case is a home with some operations of each process, and all that must hold in the end.

import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { App } from '../src/app-interface.ts';
import type { Campaign, Trial } from './campaign.ts';
import { stopPastLease } from './concurrency/stopping.ts';
import { type Done, SOURCES, sourcePath } from './concurrency/worker.ts';
import { attempt, completedBackups, judgeFiles, judgeImages, judgeJobs, judgeVerify, type Kept, withApp } from './judge.ts';
import { type Ended, start, User } from './user.ts';

const WORKER = fileURLToPath(new URL('./concurrency/worker.ts', import.meta.url));
const PROCESSES = 3;
const OPERATIONS = 10;
// How long one process is stopped while the others go on.
const STOPPED_MS = 1_000;

/** What may stand in the way of an operation when others are at work. */
const FITTING = new Set([
  'BACKUP_IN_PROGRESS',
  'BACKUP_NOT_FOUND',
  'BACKUP_HAS_DEPENDENTS',
  'BACKUP_IN_USE',
  'LEASE_LOST',
  'PARENT_REQUIRED',
  'PARENT_NOT_FOUND',
]);

export const concurrency: Campaign = {
  name: 'concurrency',
  about:
    'processes back up, verify, restore and delete in one repository, one is stopped past its lease: nothing lost, no orphan, no deadlock',
  small: 2,
  large: 60,
  run: async (trial) => {
    const figures = new Map<string, number>();
    for (let source = 0; source < SOURCES; source++) writeFileSync(sourcePath(trial.folder, source), trial.random(-source).bytes(1 << 20));
    for (const number of trial.cases()) trial.ran(number, await attempt('the case', () => runCase(trial, number, figures)));
    trial.note([...figures].map(([what, count]) => `${what} ${count}`).join(', '));
  },
};

async function runCase(trial: Trial, number: number, figures: Map<string, number>): Promise<readonly string[]> {
  const { folder } = trial;
  const user = new User(join(folder, 'home'));
  rmSync(user.home, { recursive: true, force: true });
  mkdirSync(user.home);
  const begun = await withApp(user.home, (app) => backUpEach(app, folder));
  const seed = trial.random(number).below(2 ** 31);
  const command = (index: number): string[] => [process.execPath, WORKER, folder, String(index), String(seed), String(OPERATIONS)];
  const processes = Array.from({ length: PROCESSES }, (_, index) => start(command(index), { env: user.env }));
  const [first] = processes;
  if (first) await stopAndContinue(user, first, figures);
  const ended = await Promise.all(processes.map((process) => process.ended));
  const done = ended.flatMap(({ stdout }) => stdout.split('\n').filter(Boolean)).map((line): Done => JSON.parse(line));
  for (const { op, code } of done) figures.set(code ?? op, (figures.get(code ?? op) ?? 0) + 1);
  const home = await withApp(user.home, (app) => judgeHome(app, { folder, home: user.home, done }));
  return [...begun, ...ended.flatMap(judgeEnd), ...done.flatMap((one) => judgeOperation(folder, one, done)), ...home];
}

async function stopAndContinue(user: User, { child, ended }: ReturnType<typeof start>, figures: Map<string, number>): Promise<void> {
  const { pid } = child;
  let over = false;
  void ended.then(() => {
    over = true;
  });
  if (pid === undefined || !(await stopPastLease(user.home, pid, () => over))) return;
  figures.set('stopped', (figures.get('stopped') ?? 0) + 1);
  await sleep(STOPPED_MS);
  process.kill(pid, 'SIGCONT');
}

/** A process that hangs is killed by its time limit. */
function judgeEnd({ code, signal, stderr }: Ended): readonly string[] {
  return code === 0 ? [] : [`a process ended with ${code ?? signal}: ${stderr}`];
}

function judgeOperation(folder: string, { op, id, hash, damaged, code, message }: Done, done: readonly Done[]): readonly string[] {
  const faults = (damaged ?? []).map((damage) => `a verify found damage: ${damage}`);
  if (code !== undefined && !FITTING.has(code)) faults.push(`${op} of ${id} was refused with ${code}: ${message}`);
  const source = done.find((other) => other.op === 'backup' && other.id === id)?.source;
  if (hash !== undefined && source !== undefined && hash !== hashOf(sourcePath(folder, source)))
    faults.push(`${id} was restored as something else`);
  return faults;
}

interface Site {
  readonly folder: string;
  readonly home: string;
  readonly done: readonly Done[];
}

/** All that was made and not deleted is there, and reads as its source did; whatever else is there was made by a run that lost its lease. */
async function judgeHome(app: App, { folder, home, done }: Site): Promise<readonly string[]> {
  const faults = [...(await judgeJobs(app))];
  const deletes = done.filter(({ op }) => op === 'delete');
  const deleted = new Set(deletes.filter(({ code }) => code === undefined).map(({ id }) => id));
  const unsure = new Set(deletes.filter(({ code }) => code === 'LEASE_LOST').map(({ id }) => id));
  const made = done.filter(({ op, code, id }) => op === 'backup' && code === undefined && id !== undefined);
  faults.push(...(await backUpEach(app, folder)));
  const there = await completedBackups(app);
  const ids = there.map(({ backup_id: id }) => id);
  for (const { id } of made) if (id !== undefined && !ids.includes(id) && !deleted.has(id) && !unsure.has(id)) faults.push(`${id} is lost`);
  for (const id of ids) if (deleted.has(id)) faults.push(`${id} was deleted and is there`);
  const kept = made.flatMap(({ id, source }): Kept[] =>
    id !== undefined && source !== undefined && ids.includes(id) ? [{ id, disk: sourcePath(folder, source) }] : [],
  );
  const lost = done.filter(({ op, code }) => op === 'backup' && code !== undefined && code !== 'BACKUP_IN_PROGRESS').length;
  const others = ids.length - kept.length - 2 * DISKS.length;
  if (others > lost) faults.push(`${others} backups are there that no command made, ${lost} commands lost their lease`);
  return [...faults, ...judgeFiles(home, ids), ...(await judgeVerify(app, ids.length)), ...(await judgeImages(home, kept))];
}

const DISKS = ['alpha', 'beta'].flatMap((vm) => [0, 1].map((disk_id) => ({ vm, disk_id })));

/** Before the processes begin, and after them: the next run of a disk removes what a run that lost its lease may have left there. */
async function backUpEach(app: App, folder: string): Promise<readonly string[]> {
  const faults: string[] = [];
  const options = { type: 'auto', compression: 'zstd', format: 'raw', with_backing: false, dry_run: false } as const;
  for (const { vm, disk_id } of DISKS) {
    const made = await app.backup({ vm, disks: [{ disk_id, source: sourcePath(folder, 0) }], ...options }, {});
    if (made.length !== 1) faults.push(`a backup of ${vm}, disk ${disk_id}, made nothing`);
  }
  return faults;
}

function hashOf(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}
