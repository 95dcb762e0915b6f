// Judges a crash state by the whole program: list, verify and backup work by themselves, and afterwards everything is right.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { DiskState } from './crash-state.ts';
import { judgeFolder } from './judge-repository.ts';
import { REPOSITORY, type Story, VM } from './story.ts';
import { writeState } from './write-state.ts';

/** `must`: backups that have to be there; `never`: one that may not come back. */
export interface Duties {
  readonly must: readonly string[];
  readonly never: readonly string[];
}

interface Row {
  readonly backup_id: string;
  readonly status: string;
}

export async function judgeByProgram(story: Story, state: DiskState, duties: Duties): Promise<string[]> {
  writeState(story.root, state);
  const { user, root } = story;
  const faults: string[] = [];
  const listed = async (): Promise<string[]> => {
    const answer = await user.json<{ backups?: readonly Row[] } | readonly Row[]>('list');
    const rows: readonly Row[] = 'length' in answer ? answer : (answer.backups ?? []);
    return rows.filter((row) => row.status === 'completed').map((row) => row.backup_id);
  };
  const compare = (when: string, ids: readonly string[]): void => {
    for (const id of duties.must) if (!ids.includes(id)) faults.push(`${when}: backup ${id} is not listed`);
    for (const id of duties.never) if (ids.includes(id)) faults.push(`${when}: the deleted backup ${id} is listed`);
  };
  compare('list', await listed());
  const verified = await user.run('verify', '--repo', 'default');
  const unknown = verified.stderr.includes('REPOSITORY_NOT_FOUND') || verified.stderr.includes('no repository');
  if (verified.code !== 0 && !(unknown && duties.must.length === 0))
    faults.push(`verify ended with ${verified.code}: ${verified.stderr}${verified.stdout}`);
  const taken = await user.run('backup', story.nextPath, '--vm', VM, '--json');
  if (taken.code !== 0) return [...faults, `the next backup ended with ${taken.code}: ${taken.stderr}`];
  const [outcome]: readonly Row[] = [JSON.parse(taken.stdout)].flat();
  const next = outcome?.backup_id ?? '';
  const ids = await listed();
  compare('list after the next backup', ids);
  const folder = join(root, REPOSITORY);
  if (!existsSync(folder)) return [...faults, 'there is no repository after a backup'];
  const judged = await judgeFolder(story, folder, new Map([[next, story.nextDisk]]));
  compare('the repository', judged.committed);
  for (const id of judged.committed) if (!ids.includes(id)) faults.push(`backup ${id} is in the repository and not in the list`);
  for (const id of ids) if (!judged.committed.includes(id)) faults.push(`backup ${id} is in the list and not in the repository`);
  return [...faults, ...judged.faults];
}
