// One of the processes of the campaign "concurrency": works in a home at random, and prints a line of JSON for each operation as it ends.
// It must not judge: concurrency.ts knows what all of them did.

import { createHash } from 'node:crypto';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { App, BackupView } from '../../src/app-interface.ts';
import { ChainkeepError } from '../../src/plumbing/errors.ts';
import { completedBackups, withApp } from '../judge.ts';
import { Random } from '../random.ts';

export interface Done {
  readonly op: 'backup' | 'verify' | 'restore' | 'delete';
  /** The backup that was made, restored or to be deleted. */
  readonly id?: string;
  /** What was backed up: the number of the source. */
  readonly source?: number;
  /** SHA-256 of what was restored. */
  readonly hash?: string;
  readonly damaged?: readonly string[];
  /** Why it was refused. */
  readonly code?: string;
  readonly message?: string;
}

export const SOURCES = 5;
const VMS = ['alpha', 'beta'] as const;

export function sourcePath(folder: string, source: number): string {
  return join(folder, `source-${source}.img`);
}

type Told = Omit<Done, 'op' | 'code' | 'message'>;

/** Tells what it is about before it may fail. */
type Operation = (app: App, random: Random, tell: (told: Told) => void) => Promise<void>;

const [, , folder = '', number = '', seed = '', count = ''] = process.argv;

const backup: Operation = async (app, random, tell) => {
  const source = random.below(SOURCES);
  tell({ source });
  const disks = [{ disk_id: random.chance(0.2) ? 1 : 0, source: sourcePath(folder, source) }];
  const type = random.pick(['auto', 'auto', 'auto', 'full', 'differential'] as const);
  const options = { compression: 'zstd', format: 'raw', with_backing: false, dry_run: false } as const;
  const [made] = await app.backup({ vm: random.pick(VMS), disks, type, ...options }, {});
  if (!made) throw new Error('a backup made nothing');
  tell({ source, id: made.backup_id });
};

const verify: Operation = async (app, random, tell) => {
  const { damaged } = await app.verify({ repository: 'default', quick: random.chance(0.5) }, {});
  tell({ damaged: damaged.map((damage) => JSON.stringify(damage)) });
};

const restore: Operation = async (app, random, tell) => {
  const chosen = await pickBackup(app, random);
  if (!chosen) return;
  tell({ id: chosen.backup_id });
  const target = join(folder, `restored-${number}.img`);
  await app.restore({ backup: chosen.backup_id, target, format: 'raw', force: false, dry_run: false }, {});
  tell({ id: chosen.backup_id, hash: createHash('sha256').update(readFileSync(target)).digest('hex') });
  rmSync(target);
};

const remove: Operation = async (app, random, tell) => {
  const chosen = await pickBackup(app, random);
  if (!chosen) return;
  tell({ id: chosen.backup_id });
  await app.deleteBackup(chosen.backup_id, { dry_run: false }, {});
};

/** One of the newest: older ones have dependents. */
async function pickBackup(app: App, random: Random): Promise<BackupView | undefined> {
  const found = (await completedBackups(app)).slice(0, 4);
  return found.length === 0 ? undefined : random.pick(found);
}

const OPERATIONS: Readonly<Record<Done['op'], Operation>> = { backup, verify, restore, delete: remove };

async function work(): Promise<void> {
  const random = new Random(Number(seed), Number(number));
  for (let index = 0; index < Number(count); index++) {
    const op = random.pick(['backup', 'backup', 'backup', 'verify', 'restore', 'delete'] as const);
    let told: Told = {};
    try {
      // As commands do: what died is settled when the home is opened.
      await withApp(join(folder, 'home'), (app) =>
        OPERATIONS[op](app, random, (more) => {
          told = more;
        }),
      );
      say({ op, ...told });
    } catch (error) {
      const code = error instanceof ChainkeepError ? error.code : 'INTERNAL';
      say({ op, ...told, code, message: error instanceof Error ? (error.stack ?? error.message) : String(error) });
    }
  }
}

function say(done: Done): void {
  process.stdout.write(`${JSON.stringify(done)}\n`);
}

if (import.meta.main) await work();
