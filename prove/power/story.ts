// The reference story, told once by the real program under strace: full, three incrementals, differential, delete, in a home that is new.
// What is recorded is everything the program did to the files of home and repository; the shared-memory index of SQLite is left out,
// for it is made anew after a restart.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Random } from '../random.ts';
import { User } from '../user.ts';
import type { Recording } from './operation.ts';
import { STRACE_OPTIONS, StraceReader } from './strace-log.ts';

const CLUSTER = 4096;
/** No multiple of anything. */
const DISK_BYTES = 20 * CLUSTER + 777;

export interface ToldBackup {
  readonly id: string;
  readonly disk: Buffer;
  /** Operations before the command began, and when it had ended well. */
  readonly begins: number;
  readonly acknowledged: number;
}

export interface Story {
  readonly recording: Recording;
  /** What was recorded: the home is the folder `home` in it. Crash states for the program must lie at the same place. */
  readonly root: string;
  readonly user: User;
  readonly backups: readonly ToldBackup[];
  /** The last backup was deleted again. */
  readonly deleted: { readonly id: string; readonly begins: number; readonly acknowledged: number };
  readonly vmContextId: string;
  /** A disk for the backup after the crash. */
  readonly nextDisk: Buffer;
  readonly nextPath: string;
}

export const VM = 'web';
export const REPOSITORY = 'home/repositories/default';

export async function tellStory(folder: string, seed: number): Promise<Story> {
  const root = join(folder, 'story');
  mkdirSync(root);
  const reader = new StraceReader(root, (path) => path.endsWith('-shm'));
  const user = new User(join(root, 'home'));
  const random = new Random(seed);
  const source = join(folder, 'disk.img');
  const log = join(folder, 'strace.log');
  const { operations } = reader.recording;
  const tell = async <Answer>(...args: readonly string[]): Promise<{ answer: Answer; begins: number; acknowledged: number }> => {
    const begins = operations.length;
    // Files must be written by system calls that strace sees, not through io_uring.
    const before = ['env', 'UV_USE_IO_URING=0', 'strace', ...STRACE_OPTIONS, '-o', log];
    const { code, stdout, stderr } = await user.through(before, ...args, '--json');
    if (code !== 0) throw new Error(`chainkeep ${args.join(' ')} under strace ended with ${code}: ${stderr}${stdout}`);
    reader.read(readFileSync(log, 'utf8'));
    rmSync(log);
    return { answer: JSON.parse(stdout), begins, acknowledged: operations.length };
  };
  const backups: ToldBackup[] = [];
  let disk = random.bytes(DISK_BYTES).fill(0, 5 * CLUSTER, 9 * CLUSTER);
  let vmContextId = '';
  for (const [number, type] of ['full', 'incremental', 'incremental', 'incremental', 'differential'].entries()) {
    if (number > 0) disk = changed(disk, random);
    writeFileSync(source, disk);
    const chosen = number === 0 ? ['--cluster-size', String(CLUSTER)] : [];
    const compression = number % 2 === 0 ? 'none' : 'zstd';
    const { answer, ...when } = await tell<Outcome | readonly Outcome[]>(
      ...['backup', source, '--vm', VM, '--type', type, '--compression', compression, ...chosen],
    );
    const [outcome] = [answer].flat();
    if (!outcome) throw new Error('a backup without an outcome');
    vmContextId = outcome.vm_context_id;
    backups.push({ id: outcome.backup_id, disk, ...when });
  }
  const last = backups.at(-1)?.id ?? '';
  const { begins, acknowledged } = await tell('delete', last);
  const nextDisk = changed(disk, random);
  writeFileSync(source, nextDisk);
  rmSync(root, { recursive: true });
  return {
    ...{ recording: reader.recording, root, user, backups, deleted: { id: last, begins, acknowledged } },
    ...{ vmContextId, nextDisk, nextPath: source },
  };
}

interface Outcome {
  readonly backup_id: string;
  readonly vm_context_id: string;
}

/** Some clusters are other ones, one is zeros. */
function changed(disk: Buffer<ArrayBuffer>, random: Random): Buffer<ArrayBuffer> {
  const next = Buffer.from(disk);
  const at = (): number => random.below(20) * CLUSTER;
  for (let count = 0; count < 4; count++) next.set(random.bytes(CLUSTER), at());
  next.set(Buffer.alloc(CLUSTER, `text that compresses ${random.below(1000)} `), at());
  const zeros = at();
  return next.fill(0, zeros, zeros + CLUSTER);
}
