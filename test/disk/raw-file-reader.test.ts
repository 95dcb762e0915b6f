// A raw file as a disk: its data and holes, with and without the system's help, and what becomes of a file that changes.

import { closeSync, ftruncateSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Extent } from '../../src/disk/extent.ts';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { openFileSource } from '../../src/plumbing/file-source.ts';
import { bytesSource, noiseBytes, randomNumbers } from '../repository/model-disk.ts';
import { scratchFolder } from '../repository/scratch-folder.ts';

const scratch = scratchFolder();
const MIB = 1 << 20;

async function extentsOf(reader: ReturnType<typeof openRawReader>, offset = 0, length = reader.size - offset): Promise<Extent[]> {
  const found: Extent[] = [];
  for await (const extent of reader.extents({ offset, length })) found.push(extent);
  return found;
}

const shape = ({ offset, length, kind }: Extent): [number, number, string] => [offset, length, kind];

function sparse(name: string, size: number, pieces: readonly (readonly [number, number])[]): string {
  const path = scratch(name);
  const fd = openSync(path, 'w');
  ftruncateSync(fd, size);
  for (const [at, length] of pieces) writeSync(fd, Buffer.alloc(length, 'x'), 0, length, at);
  closeSync(fd);
  return path;
}

describe('a raw file', () => {
  it('has data where there is some, and zeros between, cut to what was asked for', async () => {
    const path = sparse('holes', 10 * MIB + 5, [
      [0, 4096],
      [MIB, 2 * MIB],
      [10 * MIB, 5],
    ]);
    const reader = openRawReader(await openFileSource(path));
    expect((await extentsOf(reader)).map(shape)).toEqual([
      [0, 4096, 'data'],
      [4096, MIB - 4096, 'zero'],
      [MIB, 2 * MIB, 'data'],
      [3 * MIB, 7 * MIB, 'zero'],
      [10 * MIB, 5, 'data'],
    ]);
    expect((await extentsOf(reader, MIB + 1, MIB)).map(shape)).toEqual([[MIB + 1, MIB, 'data']]);
    expect((await extentsOf(reader, 4 * MIB, MIB)).map(shape)).toEqual([[4 * MIB, MIB, 'zero']]);
    expect((await extentsOf(reader, 100, 8000)).map(shape)).toEqual([
      [100, 3996, 'data'],
      [4096, 4004, 'zero'],
    ]);
    const [first] = await extentsOf(reader, 10, 20);
    expect(first?.stored).toMatchObject({ offset: 10, length: 20, compression: 'none' });
    expect(await extentsOf(reader, 5, 0)).toEqual([]);
    await reader.close();
  });

  it('may be nothing but a hole, or have no bytes', async () => {
    const hole = openRawReader(await openFileSource(sparse('hole', 2 ** 43, [])));
    expect((await extentsOf(hole)).map(shape)).toEqual([[0, 2 ** 43, 'zero']]);
    await hole.close();
    const empty = openRawReader(await openFileSource(sparse('empty', 0, [])));
    expect(await extentsOf(empty)).toEqual([]);
    await empty.close();
  });

  it('is all data where nobody can say: without a descriptor, or where it cannot seek for holes', async () => {
    expect((await extentsOf(openRawReader(bytesSource(Buffer.alloc(1000))))).map(shape)).toEqual([[0, 1000, 'data']]);
    const device = openSync('/dev/zero', 'r');
    const reader = openRawReader({ ...bytesSource(Buffer.alloc(5000)), fd: device });
    expect((await extentsOf(reader, 100, 900)).map(shape)).toEqual([[100, 900, 'data']]);
    closeSync(device);
  });

  it('that became shorter is not taken for zeros: whoever reads there is told', async () => {
    const path = scratch('shrinking');
    writeFileSync(path, noiseBytes(4 * MIB, randomNumbers(1)));
    const reader = openRawReader(await openFileSource(path));
    truncateSync(path, MIB);
    const found = await extentsOf(reader);
    expect(found.reduce((sum, extent) => sum + (extent.kind === 'data' ? extent.length : 0), 0)).toBe(4 * MIB);
    await expect(reader.read(Buffer.alloc(10), 2 * MIB)).rejects.toMatchObject({ code: 'SOURCE_CHANGED' });
    await reader.close();
  });

  it('can be opened as a disk of another size than the file', async () => {
    const reader = openRawReader(await openFileSource(sparse('partly', MIB, [[0, MIB]])), 1000);
    expect(reader.size).toBe(1000);
    expect((await extentsOf(reader)).map(shape)).toEqual([[0, 1000, 'data']]);
    await reader.close();
  });
});
