// A small file system of its own that can be filled to the page, and an installation with one backup, part of which lies on it.
// It must not judge anything.

import { closeSync, fstatSync, fsyncSync, ftruncateSync, mkdirSync, openSync, rmSync, statfsSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { openApp } from '../../src/app.ts';
import type { App, BackupInput } from '../../src/app-interface.ts';
import { mountExt4, mountTmpfs, type TemporaryMount } from '../../test/store/temporary-mount.ts';
import type { Random } from '../random.ts';
import { User } from '../user.ts';

export const FILE_SYSTEMS = ['tmpfs', 'ext4'] as const;
export type FileSystem = (typeof FILE_SYSTEMS)[number];
/** What lies on the small file system. */
export type Place = 'repository' | 'home' | 'both' | 'target';
export type Compression = 'none' | 'zstd';

const MIB = 1 << 20;
const FULL_SIZE = 12 * MIB;
const CHUNK = Buffer.alloc(256 << 10, 0x55);

export interface Scene {
  readonly place: Place;
  readonly path: string;
  readonly user: User;
  /** Where restores go. */
  readonly targets: string;
  readonly source: string;
  /** What the source holds. */
  readonly disk: Buffer;
  /** The backup that was there before, of this same disk. */
  readonly earlier: string;
  available(): number;
  /** Fills the file system so that this much is left; undefined gives everything back. */
  leave(bytes: number | undefined): void;
  app<Answer>(use: (app: App) => Promise<Answer>): Promise<Answer>;
  close(): void;
}

export function backupInput(source: string, compression: Compression): BackupInput {
  const disks = [{ disk_id: 0, source }];
  return { vm: 'vm', disks, type: 'full', compression, format: 'raw', with_backing: false, dry_run: false };
}

/** `folder`: for everything that does not lie on the small file system. The scene, or a plain sentence why there is none. */
export async function openScene(folder: string, fileSystem: FileSystem, place: Place, random: Random): Promise<Scene | string> {
  mkdirSync(folder);
  const mount = fileSystem === 'tmpfs' ? mountTmpfs(`size=${FULL_SIZE}`) : mountExt4(join(folder, 'ext4.img'), 2 * FULL_SIZE);
  if (typeof mount === 'string') return mount;
  try {
    return await setUp(folder, mount, place, random);
  } catch (error) {
    mount.dispose();
    throw error;
  }
}

async function setUp(folder: string, mount: TemporaryMount, place: Place, random: Random): Promise<Scene> {
  const home = join(place === 'home' || place === 'both' ? mount.path : folder, 'home');
  const targets = join(place === 'target' ? mount.path : folder, 'targets');
  mkdirSync(targets);
  const source = join(folder, 'disk.img');
  const disk = makeDisk(random);
  writeFileSync(source, disk);
  const app = async <Answer>(use: (app: App) => Promise<Answer>): Promise<Answer> => {
    const opened = await openApp({ home });
    try {
      return await use(opened);
    } finally {
      await opened.close();
    }
  };
  const path = join(place === 'repository' || place === 'both' ? mount.path : folder, 'repository');
  const earlier = await app(async (opened) => {
    await opened.addRepository({ name: 'default', type: 'local', config: { path }, take_over: false });
    const [outcome] = await opened.backup(backupInput(source, 'zstd'), {});
    return outcome?.backup_id ?? '';
  });
  const filler = openFiller(mount.path);
  return {
    place,
    path: mount.path,
    user: new User(home),
    targets,
    source,
    disk,
    earlier,
    app,
    ...filler,
    close: () => closeScene(filler, mount),
  };
}

interface Filler {
  available(): number;
  leave(bytes: number | undefined): void;
  end(): void;
}

function openFiller(path: string): Filler {
  const fd = openSync(join(path, '.filler'), 'w+');
  const available = (): number => {
    const { bavail, bsize } = statfsSync(path);
    return bavail * bsize;
  };
  return {
    available,
    leave: (bytes) => {
      ftruncateSync(fd, 0);
      fsyncSync(fd);
      if (bytes === undefined) return;
      // The file's own tables take room too, so it comes near in steps.
      for (let over = available() - bytes; over >= 4096; over = available() - bytes) {
        writeSync(fd, CHUNK, 0, Math.min(CHUNK.length, over), fstatSync(fd).size);
        fsyncSync(fd);
      }
    },
    end: () => closeSync(fd),
  };
}

function closeScene(filler: Filler, mount: TemporaryMount): void {
  filler.end();
  mount.dispose();
}

/** Noise, text that compresses, a hole of zeros, and an odd end. */
function makeDisk(random: Random): Buffer {
  const text = Buffer.alloc(300_000, `line ${random.below(1e9)} of a file that has many such lines\n`);
  return Buffer.concat([random.bytes(400_000), text, Buffer.alloc(200_000), random.bytes(250_001)]);
}

export function removeTargets({ targets }: Scene): void {
  rmSync(targets, { recursive: true, force: true });
  mkdirSync(targets);
}
