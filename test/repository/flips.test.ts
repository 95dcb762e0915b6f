// No byte is uncovered: a flip anywhere in the folder of a disk is found and named, and never restored.
// Here a part of the bytes; flips.long.test.ts takes them all.

import { describe, expect, it } from 'vitest';
import { everyFlip, flipAndRestore, flipDeep, flipQuick, sample } from './flip-bytes.ts';
import { scratchFolder } from './scratch-folder.ts';
import { findDamage } from './scratch-repository.ts';
import { makeSmallRepository } from './small-repository.ts';

const scratch = scratchFolder();

describe.each(['none', 'zstd'] as const)('a flipped byte, compression %s', (compression) => {
  it('in the metadata is found without reading the data, in the data and between them by reading it', async () => {
    const small = await makeSmallRepository(scratch(`quick-${compression}`), compression, 3);
    expect(await findDamage(small.repository)).toEqual([]);
    const { flipped, deep } = await flipQuick(small, 37, 5);
    expect(flipped).toBeGreaterThan(700);
    // Data and padding are a small part of such files: what a quick look leaves over lies in images alone.
    expect(deep.filter(({ file }) => !file.endsWith('.qcow2'))).toEqual([]);
    expect(deep.length).toBeGreaterThan(30);
    expect(await flipDeep(small, sample(deep, 20, 6))).toBe(20);
    expect(await findDamage(small.repository)).toEqual([]);
  }, 60_000);

  it('is never restored as data, and who cannot be restored is named', async () => {
    const small = await makeSmallRepository(scratch(`restore-${compression}`), compression, 4);
    expect(await flipAndRestore(small, sample(everyFlip(small, 7), 8, 8), scratch('restored'))).toBe(8);
  }, 60_000);
});
