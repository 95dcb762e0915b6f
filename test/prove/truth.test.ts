// The campaign "truth", and that its judge sees what it is there to see: spoiled restores, spoiled images, wrong answers.

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Random } from '../../prove/random.ts';
import type { Keeper } from '../../prove/truth/keeper.ts';
import { openRepositoryKeeper } from '../../prove/truth/repository-keeper.ts';
import { judgeCase, truth } from '../../prove/truth.ts';
import { expectAllGood } from './run-small.ts';

it('restores every point of random chains as it was, also by qemu-img alone', { timeout: 4 * 3600_000 }, () => expectAllGood(truth));

const SPOILERS: Readonly<Record<string, [spoil: (keeper: Keeper) => Keeper, says: RegExp]>> = {
  'a byte of a restore is another one': [
    (keeper) => ({
      ...keeper,
      restore: async (id, target, format) => {
        await keeper.restore(id, target, format);
        const bytes = readFileSync(target);
        bytes.writeUInt8(bytes.readUInt8(bytes.length - 1) ^ 1, bytes.length - 1);
        writeFileSync(target, bytes);
      },
    }),
    /^restore of \S+: byte \d+ is/,
  ],
  'an image is half as long as it was': [
    (keeper) => ({
      ...keeper,
      findDamage: async () => {
        const image = readdirSync(keeper.diskFolder()).find((name) => name.endsWith('.qcow2')) ?? '';
        const path = join(keeper.diskFolder(), image);
        truncateSync(path, statSync(path).size / 2);
        return [];
      },
    }),
    / by qemu-img alone: /,
  ],
  'more is stored than what changed': [
    (keeper) => ({
      ...keeper,
      backUp: async (source, choice) => {
        const kept = await keeper.backUp(source, choice);
        return { ...kept, clustersWritten: kept.clustersWritten + 1 };
      },
    }),
    /the number of clusters stored of \S+ is/,
  ],
  'verify names what is not damaged': [
    (keeper) => ({ ...keeper, findDamage: async () => ['it is damaged'] }),
    /^verify says: it is damaged/,
  ],
  'a delete deletes nothing': [
    (keeper) => ({ ...keeper, remove: async () => undefined }),
    /was deleted and is restored|is left over|deleting/,
  ],
};

it.each(Object.entries(SPOILERS))('notices when %s', async (_what, [spoil, says]) => {
  const folder = mkdtempSync(join(tmpdir(), 'chainkeep-truth-'));
  mkdirSync(join(folder, 'read back'));
  try {
    const keeper = spoil(await openRepositoryKeeper(join(folder, 'repository')));
    const faults = await judgeCase(keeper, new Random(SEED, 0), { folder, steps: 6 }, { points: 0, deepest: 0 });
    expect(faults.join('\n')).toMatch(new RegExp(says.source, 'm'));
  } finally {
    rmSync(folder, { recursive: true });
  }
});

// A story with a delete in it, of a disk that is not all zeros.
const SEED = 7;
