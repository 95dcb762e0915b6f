// The forward writer of the library, judged by qemu-img.

import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createQcow2File } from '../../src/qcow2/library.ts';
import { qemuImg } from './qemu-tools.ts';

const folder = mkdtempSync(join(tmpdir(), 'chainkeep-writer-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A disk with data that compresses, data that does not, zeros, and an end inside a cluster. */
function disk(size: number, clusterSize: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let cluster = 0; cluster * clusterSize < size; cluster += 1) {
    const part = bytes.subarray(cluster * clusterSize, (cluster + 1) * clusterSize);
    if (cluster % 4 === 1) part.fill(`cluster ${cluster} `);
    if (cluster % 4 === 2) part.set(randomBytes(part.length));
  }
  bytes.write('the end', size - 7);
  return bytes;
}

describe('createQcow2File', () => {
  const kinds = [512, 4096, 65_536, 2_097_152].flatMap((clusterSize) =>
    (['none', 'zlib', 'zstd'] as const).map((compression) => ({ clusterSize, compression })),
  );
  it.each(kinds)(
    'clusters of $clusterSize bytes, $compression: checks clean and reads as written',
    async ({ clusterSize, compression }) => {
      const size = 37 * Math.min(clusterSize, 300_000) + 512 * 3;
      const bytes = disk(size, clusterSize);
      const path = join(folder, `${clusterSize}-${compression}.qcow2`);
      const raw = `${path}.raw`;
      writeFileSync(raw, bytes);
      const writer = await createQcow2File(path, { size, clusterSize, compression });
      const step = 5 * clusterSize;
      for (let offset = 0; offset < size; offset += step) await writer.write(bytes.subarray(offset, offset + step), offset);
      await writer.finish();
      expect(qemuImg('check', path)).toContain('No errors were found');
      expect(qemuImg('compare', '-f', 'raw', '-F', 'qcow2', raw, path)).toContain('Images are identical');
    },
  );

  it('stores zeros on top of a backing file as zeros, and leaves what was not written to it', async () => {
    const base = join(folder, 'base.raw');
    writeFileSync(base, Buffer.alloc(4 * 65_536, 'base'));
    const path = join(folder, 'on-base.qcow2');
    const writer = await createQcow2File(path, { size: 4 * 65_536, backing: { name: 'base.raw', format: 'raw' } });
    await writer.write(Buffer.alloc(65_536), 65_536);
    await writer.write(Buffer.alloc(65_536, 'new'), 2 * 65_536);
    await writer.finish();
    const expected = Buffer.alloc(4 * 65_536, 'base');
    expected.fill(0, 65_536, 2 * 65_536).set(Buffer.alloc(65_536, 'new'), 2 * 65_536);
    writeFileSync(join(folder, 'expected.raw'), expected);
    expect(qemuImg('compare', '-f', 'raw', '-F', 'qcow2', join(folder, 'expected.raw'), path)).toContain('Images are identical');
  });

  it.each([
    ['not aligned', 100, 65_536],
    ['backwards', 0, 65_536],
    ['ends inside a cluster', 131_072, 1000],
    ['behind the end', 10 * 65_536, 65_536],
  ])('refuses a write that is %s, and an aborted image leaves nothing', async (_name, offset, length) => {
    const path = join(folder, 'refused.qcow2');
    const writer = await createQcow2File(path, { size: 10 * 65_536 });
    await writer.write(Buffer.alloc(65_536, 1), 65_536);
    await expect(writer.write(Buffer.alloc(length, 1), offset)).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    await writer.abort();
    expect(existsSync(path)).toBe(false);
    expect(readdirSync(folder).filter((name) => name.includes('refused'))).toEqual([]);
  });

  it('does not replace a file unless told', async () => {
    const path = join(folder, 'taken.qcow2');
    writeFileSync(path, 'mine');
    const writer = await createQcow2File(path, { size: 65_536 });
    await expect(writer.finish()).rejects.toMatchObject({ code: 'TARGET_EXISTS' });
    await writer.abort();
  });
});
