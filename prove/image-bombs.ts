// Bombs: small images that would cost hours or gigabytes, through each command of the program and through the library. Each must be refused
// or answered within ten seconds and 300 MiB.

import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Campaign, Trial } from './campaign.ts';
import { BOMBS, writeBomb } from './images/bombs.ts';
import { judgeEnd } from './images/program.ts';
import { type Ended, killGroup, start, User } from './user.ts';

const READER = fileURLToPath(new URL('./images/read-everything.ts', import.meta.url));
const LIMIT_MS = 10_000;
/** Given to what does not end by itself; then the case is bad anyway. */
const KILL_MS = 20_000;
const MOST_MEMORY_MIB = 300;
/** What a restore or a conversion may leave on the disk; none of the bombs holds that much. */
const MOST_STORED_BYTES = 64 * 1024 ** 2;
const LOOK_MS = 15;

type Way = (user: User, image: string, place: string) => Promise<readonly string[]>;

const WAYS: Readonly<Record<string, Way>> = {
  library: async () => [process.execPath, READER],
  info: async () => ['image', 'info'],
  check: async () => ['image', 'check'],
  map: async () => ['image', 'map', '--with-backing'],
  convert: async (_user, _image, place) => ['image', 'convert', join(place, 'target'), '--format', 'raw'],
  backup: async (user, _image, place) => {
    mkdirSync(join(place, 'repository'));
    await user.json('repo', 'add', 'r', '--path', join(place, 'repository'));
    return ['backup', '--vm', 'bomb', '--format', 'qcow2'];
  },
};

const CASES = Object.keys(BOMBS).flatMap((bomb) => Object.keys(WAYS).map((way) => ({ bomb, way })));

export const imageBombs: Campaign = {
  name: 'image-bombs',
  about: 'images that would cost hours or gigabytes are refused, or answered in ten seconds and 300 MiB',
  small: 12,
  large: CASES.length,
  run: async (trial) => {
    for (const number of trial.cases(CASES.length)) trial.ran(number, await runCase(trial, number));
  },
};

async function runCase(trial: Trial, number: number): Promise<string[]> {
  const { bomb = '', way = '' } = CASES[number] ?? {};
  const place = join(trial.folder, String(number));
  mkdirSync(place);
  try {
    const image = join(place, 'bomb.qcow2');
    writeBomb(bomb, image);
    const user = new User(join(place, 'home'));
    const [first = '', ...rest] = (await WAYS[way]?.(user, image, place)) ?? [];
    const library = way === 'library';
    const args = library
      ? [...rest, image]
      : [...rest.slice(0, first === 'image' ? 1 : 0), image, ...rest.slice(first === 'image' ? 1 : 0), '--json'];
    const began = performance.now();
    const { ended, memory } = await watch(library ? start([first, ...args], { env: user.env }) : user.start(first, ...args));
    const faults = judge(ended, { milliseconds: performance.now() - began, memory: library ? reported(ended) : memory });
    faults.push(...judgeTarget(join(place, 'target'), ended));
    return faults.map((fault) => `${bomb}, ${way}: ${fault}`);
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

/** The end of a process and the most memory it had, in MiB, by the kernel's own high-water mark. */
async function watch({ child, ended }: ReturnType<typeof start>): Promise<{ readonly ended: Ended; readonly memory: number }> {
  let memory = 0;
  const began = performance.now();
  const timer = setInterval(() => {
    memory = Math.max(memory, highWaterMark(child.pid));
    if (performance.now() - began > KILL_MS) killGroup(child, 'SIGKILL');
  }, LOOK_MS);
  try {
    return { ended: await ended, memory };
  } finally {
    clearInterval(timer);
  }
}

function highWaterMark(pid = 0): number {
  const path = `/proc/${pid}/status`;
  if (!existsSync(path)) return 0;
  const fd = openSync(path, 'r');
  try {
    return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(fd, 'utf8'))?.[1] ?? 0) / 1024;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ESRCH') return 0; // it ended in this moment
    throw error;
  } finally {
    closeSync(fd);
  }
}

function reported({ stdout }: Ended): number {
  return Number(/"memory_kib":(\d+)/.exec(stdout)?.[1] ?? 0) / 1024;
}

function judge(ended: Ended, { milliseconds, memory }: { readonly milliseconds: number; readonly memory: number }): string[] {
  const faults = judgeEnd({ ...ended, stdout: ended.stdout.slice(0, 100_000) }, milliseconds);
  if (milliseconds > LIMIT_MS) faults.push(`takes ${Math.round(milliseconds)} ms`);
  if (memory > MOST_MEMORY_MIB) faults.push(`takes ${Math.round(memory)} MiB`);
  return faults;
}

function judgeTarget(path: string, { code }: Ended): string[] {
  if (!existsSync(path)) return [];
  if (code !== 0) return ['failed and left its target'];
  const stored = statSync(path).blocks * 512;
  return stored > MOST_STORED_BYTES ? [`wrote ${stored} bytes`] : [];
}
