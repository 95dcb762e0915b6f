// The program as a user has it: every backup, restore, delete and verify is a command of its own.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { BackupOutcome, VerifyOutcome } from '../../src/app-interface.ts';
import { type Ended, User } from '../user.ts';
import type { Keeper, Kept } from './keeper.ts';
import type { Choice } from './known-chains.ts';
import { FILE_KINDS, type Source } from './written-sources.ts';

const REPOSITORY = 'safe';

/** `native`: false has the slower ways taken that stand in for native code. */
export async function openProgramKeeper(root: string, home: string, native: boolean): Promise<Keeper> {
  const user = new User(home);
  if (!native) user.env.CHAINKEEP_NATIVE = 'off';
  await user.json('repo', 'add', REPOSITORY, '--path', root);
  return {
    kinds: FILE_KINDS,
    root,
    diskFolder: () => {
      const vms = join(root, 'vms');
      return join(vms, readdirSync(vms)[0] ?? '', 'disk-0');
    },
    backUp: (source, choice) => keep(user, source, choice),
    restore: async (id, target, format) => {
      await user.json('restore', id, target, '--format', format);
    },
    remove: async (id) => {
      const ended = await user.run('delete', id, '--json');
      if (ended.code === 0) return undefined;
      const answer: { readonly error_code?: string } = JSON.parse(ended.stdout);
      return answer.error_code ?? said(ended);
    },
    findDamage: async () => [...(await verify(user)), ...(await verify(user, '--quick'))],
  };
}

async function keep(user: User, source: Source, { type, compression, clusterSize }: Choice): Promise<Kept> {
  if (!('path' in source)) throw new TypeError('a program reads files');
  const { path, format, withBacking } = source;
  const outcome = await user.json<BackupOutcome>(
    ...['backup', path, '--vm', 'story', '--repo', REPOSITORY, '--format', format, '--type', type, '--compression', compression],
    ...(withBacking ? ['--with-backing'] : []),
    ...(clusterSize ? ['--cluster-size', String(clusterSize)] : []),
  );
  const { backup_id: id, backup_type: made, parent_backup_id: parent, clusters_written: clustersWritten } = outcome;
  return { id, type: made, parent, clustersWritten };
}

/** It ends with 1 where there is damage, and that is an answer too. */
async function verify(user: User, ...options: readonly string[]): Promise<string[]> {
  const ended = await user.run('verify', '--repo', REPOSITORY, ...options, '--json');
  const answer: Partial<VerifyOutcome> = JSON.parse(ended.stdout);
  if (!answer.damaged) return [`verify did not work: ${said(ended)}`];
  const named = answer.damaged.map(({ backup_id: id, code, message }) => `${id}: ${code}: ${message}`);
  return ended.code === 0 || named.length > 0 ? named : [`verify ended with ${said(ended)}`];
}

function said({ code, signal, stdout, stderr }: Ended): string {
  return `${code ?? signal}: ${stderr}${stdout}`;
}
