// The file that says what changed: whatever is not exactly a list of stretches of this disk is refused.

import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { ByteRange } from '../../src/disk/extent.ts';
import { isChainkeepError } from '../../src/plumbing/errors.ts';
import { readChangedExtents } from '../../src/source/changed-extents.ts';
import { scratchFolder } from '../repository/scratch-folder.ts';

const scratch = scratchFolder();
const DISK = 40 * 2 ** 20;

function read(text: string | Uint8Array, sinceChangeId = 'a') {
  const path = scratch('list.json');
  writeFileSync(path, text);
  return readChangedExtents({ path, sinceChangeId, diskBytes: DISK });
}

describe('a list of changed extents', () => {
  it('may be in any order, with overlaps, and use both words for the start', async () => {
    const tracking = await read('[{"start": 512, "length": 1024}, {"offset": 0, "length": 600}, {"length": 1, "start": 41943039}]');
    const stretches: ByteRange[] = [];
    for await (const stretch of tracking.since('a')?.changed() ?? []) stretches.push(stretch);
    expect(stretches).toEqual([
      { offset: 0, length: 600 },
      { offset: 512, length: 1024 },
      { offset: DISK - 1, length: 1 },
    ]);
    expect(tracking.since('b')).toBeUndefined();
  });

  it.each([
    ['no JSON', '[{"start": 1'],
    ['nothing at all', ''],
    ['an object', '{"changedArea": []}'],
    ['no text', Buffer.from([0x5b, 0xff, 0x5d])],
    ['a start alone', '[{"start": 0}]'],
    ['two starts', '[{"start": 0, "offset": 0, "length": 1}]'],
    ['two starts and no length', '[{"start": 0, "offset": 5}]'],
    ['a list', '[[0, 512]]'],
    ['null', '[null]'],
    ['text for a number', '[{"start": "0", "length": 512}]'],
    ['a broken number', '[{"start": 0.5, "length": 512}]'],
    ['a negative start', '[{"start": -512, "length": 512}]'],
    ['an empty stretch', '[{"start": 0, "length": 0}]'],
    ['numbers that are too large', '[{"start": 9007199254740991, "length": 512}]'],
    ['what lies behind the end of the disk', `[{"start": ${DISK - 512}, "length": 513}]`],
  ])('that holds %s is refused', async (_what, text) => {
    await expect(read(text)).rejects.toSatisfy((error) => isChainkeepError(error, 'CHANGES_INVALID'));
  });

  it('since ever is refused: it does not tell what went', async () => {
    await expect(read('[]', '*')).rejects.toThrow(/what is in use/);
  });

  it('that is too large or a folder is refused', async () => {
    const path = scratch('large.json');
    writeFileSync(path, '[');
    truncateSync(path, 65 * 2 ** 20);
    await expect(readChangedExtents({ path, sinceChangeId: 'a', diskBytes: DISK })).rejects.toThrow(/at most/);
    mkdirSync(scratch('folder'));
    await expect(readChangedExtents({ path: scratch('folder'), sinceChangeId: 'a', diskBytes: DISK })).rejects.toThrow(/a folder/);
  });
});
