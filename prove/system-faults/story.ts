// The story that faults of the system attack: an installation with a full, an incremental and a differential backup, and one command.
// Each case begins from a copy of the installation, in the same place, for a repository is registered with its path.

import { cpSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { App } from '../../src/app-interface.ts';
import { withApp } from '../judge.ts';
import type { Random } from '../random.ts';
import { User } from '../user.ts';

export type Action = 'first backup' | 'backup' | 'verify' | 'restore' | 'delete';
export const ACTIONS: readonly Action[] = ['first backup', 'backup', 'verify', 'restore', 'delete'];

export interface Story {
  readonly user: User;
  readonly source: string;
  /** What the source holds now, and what each of the backups reads as. */
  readonly next: Buffer;
  readonly disks: ReadonlyMap<string, Buffer>;
  readonly ids: readonly string[];
  readonly target: string;
  /** Puts the installation back as it is before the action; answers the arguments of the command. */
  begin(action: Action): readonly string[];
  /** Files of each kind, to attack them by name. */
  files(action: Action): Readonly<Record<FileKind, readonly string[]>>;
}

export type FileKind = 'source' | 'catalog' | 'folders' | 'blobs';

export async function tellStory(folder: string, random: Random): Promise<Story> {
  const home = join(folder, 'home');
  const kept = join(folder, 'kept');
  const source = join(folder, 'disk.img');
  const targets = join(folder, 'targets');
  const disks = new Map<string, Buffer>();
  let disk = Buffer.concat([random.bytes(400_000), Buffer.alloc(200_000, 'text that compresses '), random.bytes(70_001)]);
  await withApp(home, async (app) => {
    for (const type of ['full', 'incremental', 'differential'] as const) {
      writeFileSync(source, disk);
      disks.set(await backUp(app, source, type), disk);
      disk = Buffer.from(disk);
      disk.set(random.bytes(70_000), random.below(600_000));
    }
  });
  cpSync(home, kept, { recursive: true });
  writeFileSync(source, disk);
  const ids = [...disks.keys()];
  const target = join(targets, 'out.img');
  return {
    user: new User(home),
    source,
    next: disk,
    disks,
    ids,
    target,
    begin: (action) => {
      for (const path of [home, targets]) rmSync(path, { recursive: true, force: true });
      mkdirSync(targets);
      if (action !== 'first backup') cpSync(kept, home, { recursive: true });
      return argumentsOf(action, source, target, ids);
    },
    files: (action) => filesOf(home, source, action),
  };
}

export async function backUp(app: App, source: string, type: 'auto' | 'full' | 'incremental' | 'differential'): Promise<string> {
  const disks = [{ disk_id: 0, source }];
  const [made] = await app.backup({ vm: 'vm', disks, type, compression: 'zstd', format: 'raw', with_backing: false, dry_run: false }, {});
  if (!made) throw new Error('a backup answered nothing');
  return made.backup_id;
}

function argumentsOf(action: Action, source: string, target: string, ids: readonly string[]): readonly string[] {
  const [, second = '', last = ''] = ids;
  switch (action) {
    case 'first backup':
    case 'backup':
      return ['backup', source, '--vm', 'vm', '--json'];
    case 'verify':
      return ['verify', '--repo', 'default', '--json'];
    case 'restore':
      return ['restore', second, target, '--json'];
    case 'delete':
      return ['delete', last, '--json'];
  }
}

function filesOf(home: string, source: string, action: Action): Record<FileKind, readonly string[]> {
  const catalog = ['', '-wal', '-shm'].map((end) => join(home, `catalog.sqlite${end}`));
  const repository = join(home, 'repositories', 'default');
  const all = action === 'first backup' ? [] : globSync('**', { cwd: repository, withFileTypes: true });
  const paths = (folders: boolean): string[] =>
    all.filter((entry) => entry.isDirectory() === folders).map((entry) => join(entry.parentPath, entry.name));
  return { source: [source], catalog, folders: [home, repository, ...paths(true)], blobs: paths(false) };
}

export function sameBytes(path: string, disk: Buffer): boolean {
  return readFileSync(path).equals(disk);
}
