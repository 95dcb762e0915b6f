// A hostile image through the commands of the program, each in a process of its own: info, check, map, convert, backup, restore.
// Success must give what the judge reads; a failure must be an error of ours, and leave no file.

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Random } from '../random.ts';
import { type Ended, User } from '../user.ts';
import { loadBaseImages } from './base-images.ts';
import { HostileImage } from './hostile-image.ts';
import { judgeCluster, judgeHeader } from './judge.ts';
import { describeRecipe, planRecipe, prepare } from './plan.ts';

const HANG_MS = 30_000;

export async function attackProgram(folder: string, random: Random): Promise<string[]> {
  const images = loadBaseImages(folder).map((base) => new HostileImage(base));
  const recipe = planRecipe(images, random);
  const image = prepare(images, recipe);
  const place = join(folder, 'program');
  mkdirSync(join(place, 'repository'), { recursive: true });
  try {
    const faults = await runCommands(image, place);
    return faults.map((fault) => `${describeRecipe(images, recipe)}: ${fault}`);
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

async function runCommands(image: HostileImage, place: string): Promise<string[]> {
  const path = join(place, 'hostile.qcow2');
  writeFileSync(path, image.bytes.subarray(0, image.length));
  const user = new User(join(place, 'home'));
  const faults: string[] = [];
  const run = async (...args: string[]): Promise<boolean> => {
    const began = performance.now();
    const ended = await user.run(...args, '--json');
    faults.push(...judgeEnd(ended, performance.now() - began).map((fault) => `${args.slice(0, 2).join(' ')} ${fault}`));
    return ended.code === 0;
  };
  const truth = judgeDisk(image);
  const compare = (what: string, file: string, read: boolean): void => {
    if (!read && existsSync(file)) faults.push(`${what} failed and left ${file}`);
    if (read && !(truth && readFileSync(file).equals(truth)))
      faults.push(`${what} gives ${truth ? 'OTHER CONTENT' : 'what nobody can read'}`);
  };
  await run('image', 'info', path);
  await run('image', 'check', path);
  await run('image', 'map', path);
  const raw = join(place, 'converted.raw');
  compare('image convert', raw, await run('image', 'convert', path, raw, '--format', 'raw'));
  if (!(await run('repo', 'add', 'r', '--type', 'local', '--path', join(place, 'repository')))) faults.push('repo add failed');
  const restored = join(place, 'restored.raw');
  const backed = await run('backup', path, '--vm', 'hostile', '--repo', 'r', '--format', 'qcow2');
  if (!backed) return faults;
  compare('backup and restore', restored, await run('restore', 'latest', restored, '--vm', 'hostile'));
  return faults;
}

/** What is wrong with how a command ended, whatever it said of the image. */
export function judgeEnd({ code, signal, stdout, stderr }: Ended, milliseconds: number): string[] {
  const faults: string[] = [];
  if (milliseconds > HANG_MS) faults.push(`took ${Math.round(milliseconds)} ms`);
  if (code !== 0 && code !== 1) faults.push(`ended with ${code ?? signal}: ${stderr}`);
  if (/internal error|INTERNAL/.test(stderr + stdout)) faults.push(`says: ${stderr}`);
  if (code === 1 && stdout.trim() === '') faults.push(`failed without an answer: ${stderr}`);
  return faults;
}

/** The whole disk, or undefined where some of it cannot be read. */
function judgeDisk(image: HostileImage): Buffer | undefined {
  const said = judgeHeader(image);
  if (typeof said === 'string' || said.size > 64 * 1024 ** 2) return undefined;
  const parts: Uint8Array[] = [];
  for (let cluster = 0; cluster * said.clusterSize < said.size; cluster++) {
    const verdict = judgeCluster(image, said, cluster, true);
    if ('refuse' in verdict) return undefined;
    parts.push(verdict.bytes);
  }
  return Buffer.concat(parts);
}
