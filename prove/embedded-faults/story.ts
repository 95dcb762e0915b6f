// An installation whose database lies on a small disk of its own, with a full and an incremental backup, and the command that is attacked.
// It must not judge anything. Each case begins with a copy of the installation, in the same place, for a repository is registered with its path.

import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openApp } from '../../src/app.ts';
import type { App } from '../../src/app-interface.ts';
import type { Random } from '../random.ts';
import { backUp } from '../system-faults/story.ts';
import { type Ended, LAUNCHER, start, User } from '../user.ts';
import { ORDER, type Order, type Statement } from './statement.ts';

const STRIKE = new URL('./strike.ts', import.meta.url).href;

export const COMMANDS = ['backup', 'delete', 'verify'] as const;
export type Command = (typeof COMMANDS)[number];

export interface Story {
  readonly home: string;
  readonly source: string;
  /** What each of the backups reads as, and what the source holds now. */
  readonly disks: ReadonlyMap<string, Buffer>;
  readonly next: Buffer;
  /** The folder that the database is in. */
  readonly databaseFolder: string;
  begin(): void;
  app<Answer>(use: (app: App) => Promise<Answer>): Promise<Answer>;
  run(command: Command, order: Order): Promise<Ended>;
}

export async function tellStory(folder: string, databaseFolder: string, random: Random): Promise<Story> {
  const home = join(folder, 'home');
  const kept = join(folder, 'kept');
  const source = join(folder, 'disk.img');
  const databaseUrl = `sqlite:${join(databaseFolder, 'catalog.sqlite')}`;
  const env = { ...new User(home).env, CHAINKEEP_DATABASE_URL: databaseUrl };
  const app: Story['app'] = async (use) => {
    const opened = await openApp({ home, databaseUrl });
    try {
      return await use(opened);
    } finally {
      await opened.close();
    }
  };
  const disks = new Map<string, Buffer>();
  let disk = Buffer.concat([random.bytes(150_000), Buffer.alloc(100_001, 'text ')]);
  for (const type of ['full', 'incremental'] as const) {
    writeFileSync(source, disk);
    disks.set(await app((opened) => backUp(opened, source, type)), disk);
    disk = Buffer.from(disk);
    disk.set(random.bytes(70_000), random.below(100_000));
  }
  writeFileSync(source, disk);
  cpSync(home, join(kept, 'home'), { recursive: true });
  cpSync(databaseFolder, join(kept, 'database'), { recursive: true });
  const [, last = ''] = disks.keys();
  const begin = (): void => {
    rmSync(home, { recursive: true, force: true });
    cpSync(join(kept, 'home'), home, { recursive: true });
    for (const end of ['', '-wal', '-shm', '.filler']) rmSync(join(databaseFolder, `catalog.sqlite${end}`), { force: true });
    cpSync(join(kept, 'database'), databaseFolder, { recursive: true });
  };
  const run = (command: Command, order: Order): Promise<Ended> => {
    const words = { backup: ['backup', source, '--vm', 'vm'], delete: ['delete', last], verify: ['verify', '--repo', 'default'] }[command];
    const attack = { [ORDER]: JSON.stringify(order), NODE_OPTIONS: `--import=${STRIKE}` };
    return start([LAUNCHER, ...words, '--json'], { env: { ...env, ...attack } }).ended;
  };
  mkdirSync(folder, { recursive: true });
  return { home, source, disks, next: disk, databaseFolder, begin, app, run };
}

/** Of a run that is not attacked. */
export async function countStatements(story: Story, command: Command): Promise<readonly Statement[]> {
  const trace = `${story.home}.statements`;
  rmSync(trace, { force: true });
  story.begin();
  const { code, signal, stderr } = await story.run(command, { trace });
  if (code !== 0) throw new Error(`an untouched ${command} ended with ${code ?? signal}: ${stderr}`);
  const lines = readFileSync(trace, 'utf8').split('\n');
  return lines.filter((line) => line !== '').map((line): Statement => JSON.parse(line));
}
