// What the tests of the database commands share: a home with backups, the answer of a check, and which backups are listed.

import { writeFileSync } from 'node:fs';
import { expect } from 'vitest';
import type { DatabaseCheck } from '../../src/app-interface.ts';
import { onServer, rawSql } from '../catalog/scratch-catalog.ts';
import { databaseOf, noise, type ScratchHome, scratchHome } from './scratch-home.ts';

export const MIB = 1 << 20;

export async function openHome(backups = 1) {
  const user = scratchHome();
  const disk = user.path('disk.img');
  writeFileSync(disk, noise(4 * MIB, 1));
  const ids: string[] = [];
  for (let index = 0; index < backups; index += 1) {
    if (index > 0) writeFileSync(disk, noise(MIB, index + 5), { flag: 'r+' });
    ids.push((await user.backup(disk, 'vm')).backup_id);
  }
  const home = user.path('home');
  const database = user.path('home/catalog.sqlite');
  const { CHAINKEEP_DATABASE_URL: url, CHAINKEEP_DATABASE_PASSWORD: password } = databaseOf(home);
  /** What another program would do to the database. */
  const raw = async (statement: string): Promise<readonly unknown[]> =>
    url === undefined ? rawSql(database, statement) : onServer({ url, password }, statement);
  return { user, disk, ids, database, raw };
}

/** The answer of a check that finds something. */
export async function problems(user: ScratchHome): Promise<DatabaseCheck['problems']> {
  const run = await user.run('database', 'check', '--json');
  expect(run.code, run.stderr).toBe(1);
  const answer: DatabaseCheck & { success: boolean } = JSON.parse(run.stdout);
  expect(answer).toMatchObject({ success: false, found: answer.problems.length });
  expect(run.stderr).toContain('error: ');
  return answer.problems;
}

export async function backupIds(user: ScratchHome): Promise<string[]> {
  return (await user.list('--status', 'completed')).map((backup) => backup.backup_id).toSorted();
}
