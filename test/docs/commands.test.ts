// Every command in the README and the guide is run, in the order of the pages, as a reader would: by a shell, in one folder.
// The pages use 'qemu-img', 'qemu-io' and 'mkfs.ext4'; where one is missing this file is left out.

import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, ftruncateSync, globSync, mkdirSync, openSync, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LAUNCHER } from '../cli/run-chainkeep.ts';
import { installBuiltPackage } from '../launcher/built-package.ts';
import { makeFolder, run } from '../launcher/small-clone.ts';
import { type FencedBlock, readFencedBlocks } from './fenced-blocks.ts';

const PAGE_LIMIT_MS = 120_000;
const MARK = '@@ block ';
const PATH = `${dirname(process.execPath)}:${process.env.PATH}:/usr/sbin:/sbin`;
const scratch = makeFolder();
afterAll(() => {
  // A page locks backups by the immutable attribute, where the file system has it; where not, there is nothing to take off.
  spawnSync('chattr', ['-R', '-i', scratch.path]);
  scratch.remove();
});

const readme = join(scratch.path, 'readme');
const guide = join(scratch.path, 'guide');

beforeAll(() => {
  for (const folder of [readme, guide]) {
    mkdirSync(folder);
    symlinkSync(LAUNCHER, join(folder, 'chainkeep'));
  }
  makeDisk(join(readme, 'disk.img'));
  installBuiltPackage(guide);
}, PAGE_LIMIT_MS);

describe('the commands of', { timeout: PAGE_LIMIT_MS }, () => {
  it('README.md', async () => {
    await runPage('README.md', readme);
    expectSameDisk(readme, 'disk.img', 'restored.img');
  });

  it.each(globSync('docs/guide/*.md').toSorted())('%s', async (page) => {
    await runPage(page, guide);
    if (page.endsWith('03-restore.md')) expectSameDisk(guide, 'web-1.img', 'restored.img');
  });
});

describe('a block', () => {
  it('of commands is never labelled otherwise', () => {
    for (const page of ['README.md', ...globSync('docs/guide/*.md')]) {
      const hidden = readFencedBlocks(page).filter(
        ({ kind, text }) => kind === 'example' && /^(\$ )?(\.\/)?(chainkeep|npm|qemu-\w+) /m.test(text),
      );
      expect(hidden, page).toEqual([]);
    }
  });
});

/** A small disk with some data and holes. */
function makeDisk(path: string): void {
  const disk = openSync(path, 'w');
  ftruncateSync(disk, 2 ** 30);
  for (const [offset, bytes] of [
    [0, Buffer.alloc(300_000, 'text ')],
    [700 * 2 ** 20 + 5, randomBytes(100_000)],
  ] as const) {
    writeSync(disk, bytes, 0, bytes.length, offset);
  }
  closeSync(disk);
}

async function runPage(page: string, folder: string): Promise<void> {
  const blocks = readFencedBlocks(page);
  for (const block of blocks) if (block.kind === 'program') writeFileSync(join(folder, block.file), block.text);
  const script = blocks.map((block, index) => (block.kind === 'commands' ? `echo '${MARK}${index}'\n${block.text}` : '')).join('');
  const env = ['env', `CHAINKEEP_HOME=${join(folder, 'home')}`, `HOME=${folder}`, 'NO_COLOR=1'];
  const [program = '', ...args] = [...env, 'sh', '-eu', '-c', script];
  const result = await run(program, args, { cwd: folder, path: PATH, timeout: PAGE_LIMIT_MS });
  expect(result.code, `${page}: ${result.stdout}${result.stderr}`).toBe(0);
  const printed = new Map(result.stdout.split(MARK).map((part) => [Number.parseInt(part, 10), part.slice(part.indexOf('\n') + 1)]));
  blocks.forEach((block, index) => {
    if (block.kind === 'output')
      expect(withoutNumbers(printed.get(commandsBefore(blocks, index)) ?? ''), `${page}:${block.line}`).toBe(withoutNumbers(block.text));
  });
}

function commandsBefore(blocks: readonly FencedBlock[], index: number): number {
  return blocks.findLastIndex((block, at) => at < index && block.kind === 'commands');
}

/** What differs from run to run: ids, sizes with a unit, durations. */
function withoutNumbers(text: string): string {
  return text
    .replaceAll(/\d{8}t\d{9}-[0-9a-z]{8}/g, 'ID')
    .replaceAll(/\d+(\.\d+)? ([KMGT]i)?B\b/g, 'SIZE')
    .replaceAll(/\d+(\.\d+)? m?s\b/g, 'TIME');
}

function expectSameDisk(folder: string, a: string, b: string): void {
  execFileSync('qemu-img', ['compare', '-q', '-f', 'raw', '-F', 'raw', a, b], { cwd: folder, timeout: 30_000 });
}
