// What only the catalog can know: the newest backup gone without a trace, or a disk as it was a backup ago. Judged through the program.

import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { systemClock } from '../../src/plumbing/clock.ts';
import { silentLogger } from '../../src/plumbing/logger.ts';
import { MARKER_NAME } from '../../src/repository/layout.ts';
import { openRepository } from '../../src/repository/repository.ts';
import { openLocalStore } from '../../src/store/local/local-store.ts';
import { bytesSource } from '../../test/repository/model-disk.ts';
import { heldGuard, requestFor } from '../../test/repository/scratch-repository.ts';
import { Random } from '../random.ts';
import { User } from '../user.ts';

const CLUSTERS = 8;
const CLUSTER = 4096;

interface Loss {
  readonly what: string;
  /** `before`: the folder of the disk as it was before the last backup. */
  readonly lose: (folder: string, newest: string, before: string) => void | Promise<void>;
}

const ALL: readonly Loss[] = [
  {
    what: 'every file of the newest backup',
    lose: (folder, newest) => {
      for (const name of readdirSync(folder)) if (name.startsWith(`${newest}.`)) rmSync(join(folder, name));
    },
  },
  { what: 'the sidecar of the newest backup', lose: (folder, newest) => rmSync(join(folder, `${newest}.json`)) },
  {
    what: 'the last day of the whole disk',
    lose: (folder, _newest, before) => {
      rmSync(folder, { recursive: true });
      cpSync(before, folder, { recursive: true });
    },
  },
  { what: 'the newest backup, for an earlier life of the same id', lose: (folder, newest) => replaceWhole(folder, newest) },
];

/** Puts a whole, good backup of another disk in the place of one. */
async function replaceWhole(folder: string, id: string): Promise<void> {
  const root = join(folder, '../../..');
  const { repository_id: repositoryId, owner: installationId } = JSON.parse(readFileSync(join(root, MARKER_NAME), 'utf8'));
  const store = await openLocalStore(root, { create: false });
  const repository = await openRepository({ store, clock: systemClock, logger: silentLogger, repositoryId, installationId });
  const place = { vmContextId: basename(dirname(folder)), diskId: 0 };
  const disk = new Random(77).bytes(CLUSTERS * CLUSTER);
  const request = requestFor(openRawReader(bytesSource(disk)), { place, type: 'full' });
  const plan = await repository.planBackup(request);
  for (const name of readdirSync(folder)) if (name.startsWith(`${id}.`)) rmSync(join(folder, name));
  await repository.runBackup(request, { ...plan, backupId: id }, { guard: heldGuard() });
  await repository.close();
}

export const LOSSES = ALL.length;

interface Outcome {
  readonly backup_id: string;
  readonly parent_backup_id: string | null;
  readonly vm_context_id: string;
}

interface Answer {
  readonly damaged?: readonly { readonly backup_id: string; readonly affects: readonly string[] }[];
}

export async function judgeLosses(folder: string, index: number): Promise<string[]> {
  const loss = ALL[index];
  if (!loss) throw new RangeError(`there is no loss ${index}`);
  mkdirSync(folder);
  const user = new User(join(folder, 'home'));
  const disk = join(folder, 'disk.img');
  const random = new Random(index);
  const take = async (): Promise<Outcome> => {
    writeFileSync(disk, random.bytes(CLUSTERS * CLUSTER));
    const [outcome] = [await user.json<Outcome | Outcome[]>('backup', disk, '--vm', 'web')].flat();
    if (!outcome) throw new Error('a backup without an outcome');
    return outcome;
  };
  const { vm_context_id: vm } = await take();
  const rest = join(user.home, 'repositories/default/vms', vm, 'disk-0');
  const before = join(folder, 'before');
  cpSync(rest, before, { recursive: true });
  const { backup_id: newest } = await take();
  await loss.lose(rest, newest, before);
  const faults: string[] = [];
  // Also before anybody has verified.
  const { parent_backup_id: parent } = await take();
  if (parent === newest) faults.push('the next backup stands on it');
  const verified = await user.run('verify', '--repo', 'default', '--json');
  const { damaged = [] }: Answer = verified.stdout === '' ? {} : JSON.parse(verified.stdout);
  const named = new Set(damaged.flatMap(({ affects }) => affects));
  if (verified.code !== 1 || !named.has(newest)) faults.push(`verify ended with ${verified.code} and names ${[...named].join()}`);
  if (named.size > 1) faults.push(`verify also names ${[...named].join()}`);
  const target = join(folder, 'restored.img');
  const restored = await user.run('restore', newest, target);
  if (restored.code !== 1 || readdirSync(dirname(target)).some((name) => name.includes('restored')))
    faults.push(`the restore ended with ${restored.code}`);
  return faults.map((fault) => `lost: ${loss.what}: ${fault}`);
}
