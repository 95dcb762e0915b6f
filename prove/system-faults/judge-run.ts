// What must hold after a command of the whole program met faults of the system: what it said, what is there, what works afterwards.
// It looks with the program itself, in this process, and answers what does not hold.

import { existsSync, globSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { completedBackups, judgeFiles, judgeImages, judgeJobs, judgeVerify, withApp } from '../judge.ts';
import type { Ended } from '../user.ts';
import { type Action, backUp, type Story, sameBytes } from './story.ts';

/** Codes that a user can act on; anything else, such as INTERNAL, is a fault that nobody thought of. */
const CODES: readonly string[] = [
  'STORE_FAILED',
  'INSUFFICIENT_STORAGE',
  'REPOSITORY_READ_ONLY',
  'REPOSITORY_OFFLINE',
  'BLOB_TOO_LARGE',
  'CATALOG_FAILED',
  'SOURCE_UNREADABLE',
  'SOURCE_NOT_FOUND',
  'TARGET_FAILED',
  'TARGET_INVALID',
  'CONFIG_INVALID',
];

export interface Said {
  readonly ended: Ended;
  readonly injected: readonly string[];
  /** Nothing was made to fail: the command must succeed. */
  readonly harmless?: boolean;
}

export async function judgeRun(story: Story, action: Action, said: Said): Promise<readonly string[]> {
  const succeeded = said.ended.code === 0;
  const faults = [...judgeWords(said), ...judgeClaim(said), ...judgeTarget(story, action, succeeded)];
  const id = succeeded && action.endsWith('backup') ? String(JSON.parse(said.ended.stdout).backup_id) : undefined;
  return [...faults, ...(await judgeHome(story, action, { succeeded, made: id, told: said.ended.stderr }))];
}

/** One line of error and one of advice, a code, and no way out but 0 and 1. */
function judgeWords({ ended: { code, signal, stdout, stderr }, injected, harmless }: Said): string[] {
  const said = `${stderr.trim()} ${stdout.trim()}`;
  if (code === 0) return [];
  if (code !== 1) return [`ended with ${code ?? signal}: ${said}`];
  if (injected.length === 0 && harmless !== false) return [`failed, and nothing had been made to fail: ${said}`];
  const lines = stderr.split('\n').filter((line) => line !== '');
  const count = (start: string): number => lines.filter((line) => line.startsWith(start)).length;
  const faults = count('error: ') === 1 && count('advice: ') === 1 ? [] : [`not one line of error and one of advice: ${said}`];
  if (lines.some((line) => !/^(error|advice|note): /.test(line))) faults.push(`lines that are neither error, advice nor note: ${said}`);
  const { success, error_code: errorCode } = JSON.parse(stdout);
  if (success !== false || !CODES.includes(errorCode)) faults.push(`the code ${errorCode}: ${said}`);
  return faults;
}

/** Bytes or names of a blob or a target that could not be made durable are no success, whatever comes later. */
function judgeClaim({ ended, injected }: Said): string[] {
  if (ended.code !== 0) return [];
  const lost = injected.filter(
    (call) => /^(pwrite64|pwritev|fsync|link|rename) /.test(call) && /\/(repositories|targets)(\/|$)/.test(call),
  );
  return lost.map((call) => `ended well though ${call} had failed`);
}

function judgeTarget({ target, disks, ids: [, second = ''] }: Story, action: Action, succeeded: boolean): string[] {
  const files = readdirSync(dirname(target));
  if (action !== 'restore' || !succeeded) {
    // What could not be removed for the same fault is removed by the next command, which is looked at below.
    return existsSync(target) && !sameBytes(target, disks.get(second) ?? Buffer.alloc(0)) ? ['the target has other content'] : [];
  }
  if (files.length !== 1) return [`the restore has left ${files.join(', ')}`];
  return sameBytes(target, disks.get(second) ?? Buffer.alloc(0)) ? [] : ['a restore ended well with other content'];
}

interface Outcome {
  readonly succeeded: boolean;
  /** The backup that it answered. */
  readonly made: string | undefined;
  /** What it told people. */
  readonly told: string;
}

async function judgeHome(story: Story, action: Action, { succeeded, made, told }: Outcome): Promise<readonly string[]> {
  const { user, ids, source, target, disks, next } = story;
  return withApp(user.home, async (app) => {
    const faults: string[] = [];
    const newest = await backUp(app, source, 'auto');
    faults.push(...(await judgeJobs(app, told)));
    const there = (await completedBackups(app)).map(({ backup_id: id }) => id);
    const due = action === 'first backup' ? [] : action === 'delete' ? ids.slice(0, 2) : ids;
    for (const id of [...due, ...(made === undefined ? [] : [made])]) if (!there.includes(id)) faults.push(`${id} is gone`);
    if (action === 'delete' && succeeded && there.includes(ids[2] ?? '')) faults.push('what was deleted is there');
    rmSync(target, { force: true });
    for (const id of there) {
      const restored = join(dirname(target), id);
      await app.restore({ backup: id, target: restored, format: 'raw', force: false, dry_run: false }, {});
      if (!sameBytes(restored, disks.get(id) ?? next)) faults.push(`${id} restores with other content`);
      rmSync(restored);
    }
    if (!there.includes(newest)) faults.push('the next backup is not there');
    faults.push(...(await judgeVerify(app, there.length)), ...judgeFiles(user.home, there), ...(await judgeImages(user.home, [])));
    const left = globSync('{*,.*}', { cwd: dirname(target) });
    return left.length === 0 ? faults : [...faults, `beside the target stays ${left.join(', ')}`];
  });
}
