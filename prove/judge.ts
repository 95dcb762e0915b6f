// What must hold in a home whatever happened to its processes: jobs ended, backups whole, no file that belongs to nobody, images that QEMU calls clean.
// It must not know what was done to them; what it answers is a list of faults, empty when all is well.

import { createHash } from 'node:crypto';
import { globSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { openApp } from '../src/app.ts';
import type { App, BackupView } from '../src/app-interface.ts';
import { start } from './user.ts';

export const REPOSITORY = 'repositories/default';

/** A backup that must be there, and the disk it was made of as it was then. */
export interface Kept {
  readonly id: string;
  readonly disk: string;
}

/** Opens the home as every command does: what dead processes left is settled first. */
export async function withApp<T>(home: string, use: (app: App) => Promise<T>): Promise<T> {
  const app = await openApp({ home });
  try {
    return await use(app);
  } finally {
    await app.close();
  }
}

/** What `look` throws is a fault like any other, with its stack. */
export async function attempt(what: string, look: () => Promise<readonly string[]>): Promise<readonly string[]> {
  try {
    return await look();
  } catch (error) {
    return [`${what}: ${error instanceof Error ? error.stack : String(error)}`];
  }
}

/** No job and no backup may say "running" when nobody runs, and a job that failed has said why: in its log, or in `told` that it could not. */
export async function judgeJobs(app: App, told = ''): Promise<readonly string[]> {
  const { jobs } = await app.jobs.list({ limit: 10_000 });
  const faults = jobs
    .filter(({ status }) => status === 'running' || status === 'pending')
    .map((job) => `job ${job.job_id} (${job.operation}) is still ${job.status}`);
  for (const job of jobs.filter(({ status }) => status === 'failed')) {
    if ((await app.jobs.events(job.job_id)).length === 0 && !told.includes(`the log of job ${job.job_id} is incomplete`))
      faults.push(`job ${job.job_id} (${job.operation}) failed with an empty log: ${job.error_message}`);
  }
  for (const backup of await app.listBackups({})) {
    if (backup.status === 'running' || backup.status === 'pending') faults.push(`backup ${backup.backup_id} is still ${backup.status}`);
  }
  return faults;
}

export async function completedBackups(app: App): Promise<readonly BackupView[]> {
  return (await app.listBackups({})).filter(({ status }) => status === 'completed');
}

/** Verify of everything finds no damage, and has looked at `count` backups. */
export async function judgeVerify(app: App, count: number): Promise<readonly string[]> {
  const { checked, damaged } = await app.verify({ repository: 'default', quick: false }, {});
  const faults = damaged.map((damage) => `verify finds damage: ${JSON.stringify(damage)}`);
  return checked === count ? faults : [...faults, `verify looked at ${checked} backups of ${count}`];
}

/** Every file of the repository belongs to one of these backups, and each backup has its three. */
export function judgeFiles(home: string, ids: readonly string[]): readonly string[] {
  const folder = join(home, REPOSITORY);
  const names = globSync('**/{*,.*}', { cwd: folder, withFileTypes: true }).filter((entry) => !entry.isDirectory());
  const found = new Set(names.map(({ name }) => name));
  const due = new Set(['chainkeep-repository.json', ...ids.flatMap((id) => [`${id}.qcow2`, `${id}.1.digests`, `${id}.json`])]);
  return [
    ...[...found].filter((name) => !due.has(name)).map((name) => `${name} in the repository belongs to no completed backup`),
    ...[...due].filter((name) => !found.has(name)).map((name) => `${name} is missing in the repository`),
  ];
}

/** Name and hash of every file of these backups: what was completed once must never change again. */
export function fingerprints(home: string, ids: readonly string[]): ReadonlyMap<string, string> {
  const paths = globSync('vms/**/*', { cwd: join(home, REPOSITORY) }).filter((path) => ids.includes(basename(path).split('.')[0] ?? ''));
  return new Map(paths.map((path) => [path, hashOf(join(home, REPOSITORY, path))]));
}

export function judgeUnchanged(before: ReadonlyMap<string, string>, home: string, ids: readonly string[]): readonly string[] {
  const now = fingerprints(home, ids);
  const kept = [...before].filter(([path]) => ids.includes(basename(path).split('.')[0] ?? ''));
  return kept.filter(([path, hash]) => now.get(path) !== hash).map(([path]) => `${path} was ${now.has(path) ? 'changed' : 'lost'}`);
}

/** `qemu-img check` of every image there is, `qemu-img compare` of these backups with what the disk was. */
export async function judgeImages(home: string, kept: readonly Kept[]): Promise<readonly string[]> {
  const folder = join(home, REPOSITORY);
  const images = globSync('vms/**/*.qcow2', { cwd: folder }).map((path) => join(folder, path));
  const checks = images.map((path) => qemuImg('check', '-f', 'qcow2', path));
  const compares = kept.map(async ({ id, disk }) => {
    const image = images.find((path) => basename(path) === `${id}.qcow2`);
    return image === undefined ? [`there is no image of ${id}`] : qemuImg('compare', '-f', 'raw', '-F', 'qcow2', disk, image);
  });
  return (await Promise.all([...checks, ...compares])).flat();
}

async function qemuImg(...args: readonly string[]): Promise<readonly string[]> {
  const { code, signal, stdout, stderr } = await start(['qemu-img', ...args]).ended;
  return code === 0 ? [] : [`qemu-img ${args.join(' ')} ended with ${code ?? signal}: ${stderr}${stdout}`];
}

function hashOf(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}
