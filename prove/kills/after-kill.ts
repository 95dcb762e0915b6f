// What must hold after a command was killed: all that was completed is there as it was, the killed one is there whole or not at all, the next
// backup of the same disk works by itself, and nothing is left over. It must not know how or where the command was killed.

import { existsSync, globSync } from 'node:fs';
import type { App, JobView } from '../../src/app-interface.ts';
import {
  attempt,
  completedBackups,
  fingerprints,
  judgeFiles,
  judgeImages,
  judgeJobs,
  judgeUnchanged,
  judgeVerify,
  type Kept,
  withApp,
} from '../judge.ts';
import { judgeRegistration } from './registration.ts';
import { backupOf, type Step, type Story } from './story.ts';

/** Names of the jobs that there were before, and hashes of the files of what was completed. */
export interface Before {
  readonly files: ReadonlyMap<string, string>;
  readonly names: ReadonlySet<string>;
}

export function lookBefore(story: Story, step: Step): Before {
  const ids = step.kept.map(({ id }) => id);
  return { files: fingerprints(story.user.home, ids), names: new Set(namesIn(story.user.home)) };
}

/** `ended`: the command was not killed, so it must have done what it was to do. */
export function judgeKill(story: Story, step: Step, before: Before, ended: boolean): Promise<readonly string[]> {
  return attempt('after the kill', () =>
    withApp(story.user.home, async (app) => {
      const settled = [...(await judgeJobs(app)), ...(await judgeKilledJob(app, step, ended))];
      if (step.registers !== undefined) settled.push(...(await judgeRegistration(app, step.registers, story.next, ended)));
      const kept = await stillKept(app, step);
      const ids = kept.map(({ id }) => id);
      const lost = judgeUnchanged(before.files, story.user.home, ids);
      const next = await judgeNext(story, app, kept, kept.slice(step.kept.length));
      return [...settled, ...lost, ...next, ...judgeNames(story.user.home, before.names)];
    }),
  );
}

/** The job log tells the truth of the killed command: completed when its work is there, else failed, and why. */
async function judgeKilledJob(app: App, step: Step, ended: boolean): Promise<readonly string[]> {
  const killed = await newJob(app, step);
  const done = await isDone(app, step);
  if (!killed) return done ? [`${step.name} is done and has no job`] : [];
  if (ended && done === false) return [`${step.name} ended well and has done nothing`];
  if (done === undefined) return [];
  if ((killed.status === 'completed') !== done) return [`${step.name} ${done ? 'is done' : 'is not done'}, its job says ${killed.status}`];
  const log = await app.jobs.events(killed.job_id);
  const told = killed.status === 'completed' || /died/.test(log.at(-1)?.message ?? '');
  return told ? [] : [`the log of the killed job does not tell of its death: ${JSON.stringify({ killed, log })}`];
}

/** The story has one job for each step before this one. */
async function newJob(app: App, step: Step): Promise<JobView | undefined> {
  const { jobs } = await app.jobs.list({ limit: 10_000 });
  return jobs.length > step.jobs ? jobs[0] : undefined;
}

/** Undefined for commands that only read. */
async function isDone(app: App, step: Step): Promise<boolean | undefined> {
  const ids = (await completedBackups(app)).map(({ backup_id: id }) => id);
  if (step.makes !== undefined) return ids.length > step.kept.length;
  return step.deletes === undefined ? undefined : !ids.includes(step.deletes);
}

/** What was kept and is still due, and what the killed command has completed; throws when a backup is lost or came from nowhere. */
async function stillKept(app: App, step: Step): Promise<readonly Kept[]> {
  const ids = (await completedBackups(app)).map(({ backup_id: id }) => id);
  const gone = step.kept.filter(({ id }) => !ids.includes(id)).map(({ id }) => id);
  const lost = gone.filter((id) => id !== step.deletes);
  if (lost.length > 0) throw new Error(`completed backups are lost: ${lost.join(', ')}`);
  const added = ids.filter((id) => !step.kept.some((kept) => kept.id === id));
  const [disk] = step.makes === undefined ? [] : [step.makes];
  if (added.length > (disk === undefined ? 0 : 1)) throw new Error(`backups that nobody made: ${added.join(', ')}`);
  return [...step.kept.filter(({ id }) => !gone.includes(id)), ...added.map((id) => ({ id, disk: disk ?? '' }))];
}

/** `fresh`: those that the killed command has completed. */
async function judgeNext(story: Story, app: App, kept: readonly Kept[], fresh: readonly Kept[]): Promise<readonly string[]> {
  const [next] = await app.backup(backupOf(story.next), {});
  if (!next) return ['the next backup made nothing'];
  const all = [...kept, { id: next.backup_id, disk: story.next }];
  const { home } = story.user;
  const files = judgeFiles(
    home,
    all.map(({ id }) => id),
  );
  const parent = kept.at(-1)?.id;
  const chained =
    parent === undefined || next.backup_type === 'incremental' ? [] : [`the next backup is ${next.backup_type}, on ${parent}`];
  return [...files, ...chained, ...(await judgeVerify(app, all.length)), ...(await judgeImages(home, [...fresh, ...all.slice(-1)]))];
}

/** Nothing new in the home outside of the repository. */
function judgeNames(home: string, before: ReadonlySet<string>): readonly string[] {
  return namesIn(home)
    .filter((name) => !before.has(name) && !name.startsWith('repositories'))
    .filter((name) => !/^catalog\.sqlite(-wal|-shm)?$/.test(name))
    .map((name) => `${name} in the home is new`);
}

function namesIn(home: string): readonly string[] {
  return existsSync(home) ? globSync('**/{*,.*}', { cwd: home }) : [];
}
