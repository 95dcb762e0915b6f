// Every byte of a small repository is flipped, one after the other. Takes long: npm run test:all.

import { describe, expect, it } from 'vitest';
import { everyFlip, flipAndRestore, flipDeep, flipQuick, sample } from './flip-bytes.ts';
import { scratchFolder } from './scratch-folder.ts';
import { findDamage } from './scratch-repository.ts';
import { makeSmallRepository } from './small-repository.ts';

const scratch = scratchFolder();

describe.each(['none', 'zstd'] as const)('every byte, compression %s', (compression) => {
  it('is covered', async () => {
    const small = await makeSmallRepository(scratch(`every-${compression}`), compression, 9);
    const { flipped, deep } = await flipQuick(small, 1, 10);
    // One mask is enough where the whole byte is digested.
    const once = deep.filter(({ mask }) => mask === 0xff);
    const found = await flipDeep(small, once);
    expect(await findDamage(small.repository)).toEqual([]);
    const restored = await flipAndRestore(small, sample(everyFlip(small, 11), 300, 12), scratch('restored'));
    process.stdout.write(`${flipped} bytes flipped (${found} of them found by reading the data), ${restored} of them restored: 0 bad\n`);
  }, 1_800_000);
});
