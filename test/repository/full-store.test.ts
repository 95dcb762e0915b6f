// A repository on a disk that is full: the run says so, gives its room back, and what was there before is as it was.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createFileWriter } from '../../src/disk/file-writer.ts';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { restoreBackup } from '../../src/repository/restore-backup.ts';
import { mountTmpfs } from '../store/temporary-mount.ts';
import { bytesSource, noiseBytes, randomNumbers, textBytes } from './model-disk.ts';
import { scratchFolder } from './scratch-folder.ts';
import { backUp, backUpFile, findDamage, makeRepository, PLACE, restoredBytes } from './scratch-repository.ts';

const scratch = scratchFolder();
const MIB = 1 << 20;

describe('a full disk', () => {
  it.for(['none', 'zstd'] as const)('under a repository, compression %s', async (compression, context) => {
    const mount = mountTmpfs('size=4m');
    if (typeof mount === 'string') return context.skip(mount);
    try {
      const test = await makeRepository(join(mount.path, 'repository'));
      const random = randomNumbers(1);
      const small = noiseBytes(MIB, random);
      const before = await backUp(test.repository, openRawReader(bytesSource(small)), { compression });
      // Noise, so that it does not fit; with some text, so that packed runs fill too.
      const large = Buffer.concat(Array.from({ length: 40 }, () => [noiseBytes(150_000, random), textBytes(100_000, random)]).flat());
      const free = (await test.repository.getStorageInfo())?.availableBytes;
      writeFileSync(scratch('large'), large);
      for (let round = 0; round < 3; round++) {
        await expect(backUpFile(test.repository, scratch('large'), { compression })).rejects.toMatchObject({
          code: 'INSUFFICIENT_STORAGE',
          context: { required_bytes: expect.any(Number), available_bytes: expect.any(Number) },
        });
        expect(readdirSync(test.folder).length).toBe(3);
        expect((await test.repository.getStorageInfo())?.availableBytes).toBe(free);
      }
      // Every other size, up to the last byte that fits: whole or nothing.
      for (let bytes = 1.2 * MIB; bytes < 3.4 * MIB; bytes += 0.23 * MIB) {
        writeFileSync(scratch('part'), large.subarray(0, Math.floor(bytes)));
        const outcome = await backUpFile(test.repository, scratch('part'), { compression }).catch((error: unknown) => error);
        if (outcome instanceof Error) {
          expect(outcome).toMatchObject({ code: 'INSUFFICIENT_STORAGE' });
          expect(readdirSync(test.folder).length).toBe(3);
          continue;
        }
        const { sidecars } = await test.repository.readDisk(PLACE);
        const id = sidecars.at(-1)?.backup_id ?? '';
        expect((await restoredBytes(test.repository, id, scratch('out'))).equals(readFileSync(scratch('part')))).toBe(true);
        await test.repository.runDelete(await test.repository.planDelete(PLACE, id), {
          signal: new AbortController().signal,
          assertHeld: async () => undefined,
        });
      }
      expect(await findDamage(test.repository)).toEqual([]);
      expect((await restoredBytes(test.repository, before.sidecar.backup_id, scratch('out'))).equals(small)).toBe(true);
    } finally {
      mount.dispose();
    }
  });

  it('under the target of a restore', async (context) => {
    const mount = mountTmpfs('size=1m');
    if (typeof mount === 'string') return context.skip(mount);
    try {
      const test = await makeRepository(scratch('repository'));
      const disk = noiseBytes(3 * MIB, randomNumbers(2));
      const { sidecar } = await backUp(test.repository, openRawReader(bytesSource(disk)), { compression: 'zstd' });
      const opened = await test.repository.openBackup(PLACE, sidecar.backup_id);
      for (const format of ['raw', 'qcow2'] as const) {
        const writer = await createFileWriter(join(mount.path, 'disk'), { size: format === 'raw' ? disk.length : 0, replace: false });
        await expect(restoreBackup(opened, writer, format, {})).rejects.toMatchObject({ code: 'INSUFFICIENT_STORAGE' });
        expect(readdirSync(mount.path)).toEqual([]);
      }
      await opened.close();
    } finally {
      mount.dispose();
    }
  });
});
