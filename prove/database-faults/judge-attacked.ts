// What must hold after a command during which the database failed, whichever database it was: what it said, what is there, what works afterwards.
// It must not know what was done to the database.

import { rmSync } from 'node:fs';
import type { App } from '../../src/app-interface.ts';
import { completedBackups, judgeFiles, judgeImages, judgeJobs, judgeVerify } from '../judge.ts';
import { backUp, sameBytes } from '../system-faults/story.ts';
import type { Ended } from '../user.ts';

export interface Attacked {
  readonly home: string;
  readonly source: string;
  /** What each backup that was completed before reads as, and what the source holds now. */
  readonly disks: ReadonlyMap<string, Buffer>;
  readonly next: Buffer;
  /** Those that must still be there. */
  readonly due: readonly string[];
  /** The one that must not be there any more when the command ended well. */
  readonly deletes: string | undefined;
}

/** Either done, or one line that says why not and one of advice. */
export function judgeWords({ code, signal, stdout, stderr }: Ended): string[] {
  if (code === 0) return [];
  const said = `${stderr.trim()} ${stdout.trim()}`;
  if (code !== 1) return [`ended with ${code ?? signal}: ${said}`];
  const lines = stderr.split('\n').filter((line) => line !== '');
  const count = (start: string): number => lines.filter((line) => line.startsWith(start)).length;
  const faults = count('error: ') === 1 && count('advice: ') === 1 ? [] : [`not one line of error and one of advice: ${said}`];
  const { success, error_code: errorCode } = JSON.parse(stdout);
  return success === false && errorCode === 'CATALOG_FAILED' ? faults : [...faults, `the code ${errorCode}: ${said}`];
}

/** The `app` was opened after the command, as the next one would: that alone has settled what was left. Then the next backup. */
export async function judgeAfterwards(app: App, scene: Attacked, { code, stdout }: Ended): Promise<readonly string[]> {
  const settled = await judgeJobs(app);
  const answer: { readonly backup_id?: unknown; readonly backup_type?: unknown } = code === 0 ? JSON.parse(stdout) : {};
  const made = typeof answer.backup_type === 'string' ? [String(answer.backup_id)] : [];
  const newest = await backUp(app, scene.source, 'auto');
  const there = (await completedBackups(app)).map(({ backup_id: id }) => id);
  const lost = [...scene.due, ...made, newest].filter((id) => !there.includes(id)).map((id) => `${id} is gone`);
  const kept = code === 0 && scene.deletes !== undefined && there.includes(scene.deletes) ? ['what was deleted is there'] : [];
  return [
    ...settled,
    ...kept,
    ...(await judgeJobs(app)),
    ...lost,
    ...(await judgeContents(app, scene, there)),
    ...(await judgeVerify(app, there.length)),
    ...judgeFiles(scene.home, there),
    ...(await judgeImages(scene.home, [])),
  ];
}

async function judgeContents(app: App, { disks, next, home }: Attacked, ids: readonly string[]): Promise<readonly string[]> {
  const faults: string[] = [];
  for (const id of ids) {
    const restored = `${home}.restored`;
    await app.restore({ backup: id, target: restored, format: 'raw', force: false, dry_run: false }, {});
    if (!sameBytes(restored, disks.get(id) ?? next)) faults.push(`${id} restores with other content`);
    rmSync(restored);
  }
  return faults;
}
