// Restores: to new files, over files, onto devices; and what becomes of damage on the way: an error that says where, and no file.

import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { createFileWriter } from '../../src/disk/file-writer.ts';
import { openTarget } from '../../src/disk/open-target.ts';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { openFileSource } from '../../src/plumbing/file-source.ts';
import { restoreBackup } from '../../src/repository/restore-backup.ts';
import type { Sidecar } from '../../src/repository/sidecar-fields.ts';
import { faultyStore } from '../../src/store/testing/faulty-store.ts';
import { bytesSource, noiseBytes, randomNumbers, textBytes } from './model-disk.ts';
import { scratchFolder } from './scratch-folder.ts';
import { backUp, makeRepository, PLACE, restoredBytes, restoreTo, type TestRepository } from './scratch-repository.ts';

const scratch = scratchFolder();
const CLUSTER = 65_536;
const random = randomNumbers(1);
const first = Buffer.concat([
  noiseBytes(3 * CLUSTER, random),
  Buffer.alloc(40 * CLUSTER),
  textBytes(6 * CLUSTER, random),
  noiseBytes(1000, random),
]);
const second = Buffer.from(first);
second.set(textBytes(2 * CLUSTER, random), 44 * CLUSTER);
second.set(noiseBytes(CLUSTER, random), CLUSTER);
let made = 0;
let test: TestRepository;
let full: Sidecar;
let child: Sidecar;
let targets: string;

beforeEach(async () => {
  made++;
  test = await makeRepository(scratch(`repository-${made}`));
  full = (await backUp(test.repository, openRawReader(bytesSource(first)), { compression: 'zstd' })).sidecar;
  child = (await backUp(test.repository, openRawReader(bytesSource(second)), { compression: 'zstd' })).sidecar;
  targets = scratch(`targets-${made}`);
  mkdirSync(targets);
});

const target = (name = 'disk.raw'): string => join(targets, name);
const imageOf = ({ backup_id: id }: Sidecar): string => join(test.folder, `${id}.qcow2`);

function damage(path: string, part: Buffer, at: number): void {
  const bytes = readFileSync(path);
  const start = bytes.indexOf(part);
  expect(start).toBeGreaterThan(0);
  bytes.writeUInt8(bytes.readUInt8(start + at) ^ 1, start + at);
  writeFileSync(path, bytes);
}

describe('a restored disk', () => {
  it('is a new file, of its exact size and sparse', async () => {
    for (const [sidecar, disk] of [
      [full, first],
      [child, second],
    ] as const) {
      const progress: [number, number][] = [];
      const opened = await test.repository.openBackup(PLACE, sidecar.backup_id);
      expect(opened.chain.map(({ backup_id: id }) => id)).toEqual(sidecar === full ? [full.backup_id] : [child.backup_id, full.backup_id]);
      const writer = await createFileWriter(target(), { size: opened.reader.size, replace: false });
      const copied = await restoreBackup(opened, writer, 'raw', { onProgress: (done, total) => progress.push([done, total]) });
      await opened.close();
      expect(readFileSync(target()).equals(disk)).toBe(true);
      expect(statSync(target()).blocks * 512).toBeLessThan(12 * CLUSTER);
      expect(copied.bytesWritten).toBeLessThan(11 * CLUSTER);
      expect(progress.at(-1)).toEqual([disk.length, disk.length]);
      rmSync(target());
    }
  });

  it('reads like any disk: its extents and bytes are those of the chain', async () => {
    const opened = await test.repository.openBackup(PLACE, child.backup_id);
    const bytes = Buffer.alloc(second.length);
    await opened.reader.read(bytes, 0);
    expect(bytes.equals(second)).toBe(true);
    const kinds = new Set<string>();
    for await (const extent of opened.reader.extents({ offset: 0, length: second.length })) kinds.add(extent.kind);
    expect(kinds).toEqual(new Set(['data', 'absent']));
    expect(opened.reader.name).toBe(`backup ${child.backup_id}`);
    await opened.close();
  });

  it('replaces a file only where that was said, and only when it is whole', async () => {
    writeFileSync(target(), 'something else');
    const opened = await test.repository.openBackup(PLACE, child.backup_id);
    await expect(
      restoreBackup(opened, await createFileWriter(target(), { size: second.length, replace: false }), 'raw', {}),
    ).rejects.toMatchObject({ code: 'TARGET_EXISTS' });
    expect(readFileSync(target(), 'utf8')).toBe('something else');
    expect(readdirSync(targets)).toEqual(['disk.raw']);
    await restoreBackup(opened, await createFileWriter(target(), { size: second.length, replace: true }), 'raw', {});
    await opened.close();
    expect(readFileSync(target()).equals(second)).toBe(true);
    expect(readdirSync(targets)).toEqual(['disk.raw']);
  });

  it('overwrites a device, zeros too, and no byte behind its end', async (context) => {
    const backing = target('device.img');
    writeFileSync(backing, Buffer.alloc(first.length + 100_000 - ((first.length + 100_000) % 512), 0xab));
    let device: string;
    try {
      device = execFileSync('losetup', ['--find', '--show', backing], {
        encoding: 'utf8',
        timeout: 10_000,
        stdio: ['ignore', 'pipe', 'pipe'],
      }).trim();
    } catch (error) {
      return context.skip(`no loop device can be made here: ${String(error).split('\n')[0]}`);
    }
    try {
      const opened = await test.repository.openBackup(PLACE, child.backup_id);
      await restoreBackup(opened, await openTarget({ path: device, format: 'raw', force: true }, second.length), 'raw', {});
      await opened.close();
      const source = await openFileSource(device);
      const bytes = Buffer.alloc(source.size);
      await source.read(bytes, 0);
      expect(bytes.subarray(0, second.length).equals(second)).toBe(true);
      expect(bytes.subarray(second.length).every((byte) => byte === 0xab)).toBe(true);
      // And a device is backed up like a file.
      const again = await backUp(test.repository, openRawReader(source), {
        place: { vmContextId: 'device', diskId: 0 },
        sourceKind: 'device',
      });
      expect(again.sidecar.total_bytes).toBe(source.size);
      await source.close();
      expect(
        (await restoredBytes(test.repository, again.sidecar.backup_id, target('out'), { vmContextId: 'device', diskId: 0 })).equals(bytes),
      ).toBe(true);
    } finally {
      execFileSync('losetup', ['--detach', device], { timeout: 10_000 });
    }
  });

  it('can be left in the middle', async () => {
    const opened = await test.repository.openBackup(PLACE, child.backup_id);
    for (const format of ['raw', 'qcow2'] as const) {
      const controller = new AbortController();
      const writer = await createFileWriter(target(), { size: format === 'raw' ? second.length : 0, replace: false });
      const run = restoreBackup(opened, writer, format, { signal: controller.signal, onProgress: () => controller.abort() });
      await expect(run).rejects.toMatchObject({ code: 'CANCELLED' });
      expect(readdirSync(targets)).toEqual([]);
    }
    await opened.close();
  });
});

describe('damage that a restore meets', () => {
  const noRestore = async (sidecar: Sidecar, format: 'raw' | 'qcow2' = 'raw'): Promise<unknown> => {
    const outcome = await restoreTo(test.repository, sidecar.backup_id, target(), format).catch((error: unknown) => error);
    expect(readdirSync(targets)).toEqual([]);
    return outcome;
  };

  it('in a plain cluster is told with its backup and its place, and nothing is left', async () => {
    damage(imageOf(full), first.subarray(2 * CLUSTER, 3 * CLUSTER), 5000);
    for (const [sidecar, format] of [
      [full, 'raw'],
      [child, 'qcow2'],
    ] as const) {
      expect(await noRestore(sidecar, format)).toMatchObject({
        code: 'DIGEST_MISMATCH',
        message: expect.stringContaining(`backup ${full.backup_id} is damaged at guest offset ${2 * CLUSTER}`),
        context: { backup_id: full.backup_id, guest_offset: 2 * CLUSTER },
      });
    }
  });

  it('in a compressed cluster too, also where it expands to the same bytes or to nothing', async () => {
    const frame = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);
    for (const at of [0, 9]) {
      const good = readFileSync(imageOf(full));
      damage(imageOf(full), frame, at);
      expect(await noRestore(full)).toMatchObject({
        code: 'DIGEST_MISMATCH',
        context: { backup_id: full.backup_id, guest_offset: 43 * CLUSTER },
      });
      writeFileSync(imageOf(full), good);
    }
  });

  it('in a cluster that a newer backup replaced does not matter to that one', async () => {
    damage(imageOf(full), first.subarray(CLUSTER, 2 * CLUSTER), 77);
    expect(await noRestore(full)).toMatchObject({ code: 'DIGEST_MISMATCH', context: { guest_offset: CLUSTER } });
    await restoreTo(test.repository, child.backup_id, target());
    expect(readFileSync(target()).equals(second)).toBe(true);
  });

  it('in a table is told as such', async () => {
    const image = readFileSync(imageOf(child));
    const l1 = Number(image.readBigUInt64BE(40));
    const l2 = Number(image.readBigUInt64BE(l1) & 0x00ff_ffff_ffff_fe00n);
    const cases: [string, number, bigint, string][] = [
      ['an entry that lies past the end', l2 + 8, 0x8000_0000_7fff_0000n, 'QCOW2_INVALID'],
      ['an entry that is unallocated', l2 + 8, 0n, 'DIGEST_MISMATCH'],
      ['an entry that is zero', l2 + 8, 1n, 'DIGEST_MISMATCH'],
      ['an entry of other data', l2 + 8, 0x8000_0000_0000_0000n, 'QCOW2_INVALID'],
      ['a zero where the parent has data', l2, 1n, 'DIGEST_MISMATCH'],
      ['no table', l1, 0n, 'DIGEST_MISMATCH'],
      ['a table past the end', l1, 0x8000_0000_7fff_0000n, 'QCOW2_INVALID'],
    ];
    for (const [what, at, entry, code] of cases) {
      const damaged = Buffer.from(image);
      damaged.writeBigUInt64BE(entry, at);
      writeFileSync(imageOf(child), damaged);
      expect(await noRestore(child), what).toMatchObject({ code });
    }
    writeFileSync(imageOf(child), image);
    await restoreTo(test.repository, child.backup_id, target());
  });

  it('in what an image says of itself is refused before anything is written', async () => {
    const image = readFileSync(imageOf(child));
    const wrong: [string, (bytes: Buffer) => void][] = [
      ['another backing name', (bytes) => bytes.write('x', Number(bytes.readBigUInt64BE(8)), 'latin1')],
      ['another mark', (bytes) => bytes.write('x', bytes.indexOf(`${child.backup_id}:1`), 'latin1')],
      ['another generation', (bytes) => bytes.write('2', bytes.indexOf(`${child.backup_id}:1`) + child.backup_id.length + 1, 'latin1')],
      ['no mark', (bytes) => bytes.writeUInt32BE(0x12345678, bytes.indexOf(`${child.backup_id}:1`) - 8)],
      ['another size', (bytes) => bytes.writeBigUInt64BE(BigInt(child.qcow2.virtual_size - 512), 24)],
      ['no magic', (bytes) => bytes.writeUInt8(0, 0)],
      ['encryption', (bytes) => bytes.writeUInt32BE(1, 32)],
    ];
    for (const [what, change] of wrong) {
      const damaged = Buffer.from(image);
      change(damaged);
      writeFileSync(imageOf(child), damaged);
      expect(await noRestore(child), what).toMatchObject({ code: 'CHAIN_CORRUPT', context: { backup_id: child.backup_id } });
    }
    writeFileSync(imageOf(child), readFileSync(imageOf(full)));
    expect(await noRestore(child)).toMatchObject({ code: 'CHAIN_CORRUPT' });
  });

  it('while it runs: an image that is cut, or a store that fails', async () => {
    const opened = await test.repository.openBackup(PLACE, full.backup_id);
    truncateSync(imageOf(full), 3 * CLUSTER);
    const cut = restoreBackup(opened, await createFileWriter(target(), { size: first.length, replace: false }), 'raw', {});
    await expect(cut).rejects.toMatchObject({ name: 'ChainkeepError', code: expect.stringMatching(/^(STORE_FAILED|BLOB_CHANGED)$/) });
    await opened.close();
    expect(readdirSync(targets)).toEqual([]);
  });

  it('of the store, at any of its operations: the right bytes or none', async () => {
    for (const sticky of [false, true]) {
      for (let failAt = 1; failAt < 200; failAt++) {
        const { store, operations } = faultyStore(test.store, { failAt, sticky });
        const repository = await test.through(store).catch((error: unknown) => error);
        if (repository instanceof Error) continue;
        const outcome = await restoreTo(Object(repository), child.backup_id, target()).catch((error: unknown) => error);
        if (operations.length < failAt) {
          expect(outcome).toBeUndefined();
          expect(readFileSync(target()).equals(second)).toBe(true);
          rmSync(target());
          break;
        }
        expect(outcome, operations[failAt - 1]).toMatchObject({ code: 'STORE_FAILED' });
        expect(readdirSync(targets)).toEqual([]);
      }
    }
  });

  it('in a folder that was moved away: the repository is offline, and nothing is made up', async () => {
    const opened = await test.repository.openBackup(PLACE, child.backup_id);
    await opened.close();
    renameSync(test.root, `${test.root}-away`);
    await expect(test.repository.openBackup(PLACE, child.backup_id)).rejects.toMatchObject({ code: 'REPOSITORY_OFFLINE' });
    renameSync(`${test.root}-away`, test.root);
    expect(existsSync(target())).toBe(false);
  });
});

describe('a disk of several ranges', () => {
  it('comes back, sparse, through a chain that changes each of them', async () => {
    // With clusters of 64 KiB a range has 512 MiB.
    const size = 1200 * 2 ** 20 + 513;
    const path = target('large.raw');
    const pieces = new Map([
      [0, 'a'],
      [512 * 2 ** 20 - 5, 'crosses the border of a range'],
      [1100 * 2 ** 20, 'b'],
      [size - 3, 'end'],
    ]);
    const fd = openSync(path, 'w+');
    ftruncateSync(fd, size);
    for (const [at, text] of pieces) writeSync(fd, text, at);
    const place = { vmContextId: 'large', diskId: 1 };
    const ids: string[] = [];
    for (const [at, text] of [
      [0, 'a'],
      [700 * 2 ** 20, 'second'],
      [1100 * 2 ** 20, '\0'],
      [512 * 2 ** 20, 'THIRD'],
    ] as const) {
      writeSync(fd, text, at);
      const source = await openFileSource(path);
      const { sidecar } = await backUp(test.repository, openRawReader(source), { place, compression: 'zstd' });
      await source.close();
      execFileSync('cp', ['--sparse=always', path, `${path}.${sidecar.backup_id}`], { timeout: 20_000 });
      ids.push(sidecar.backup_id);
    }
    closeSync(fd);
    for (const id of ids) {
      await restoreTo(test.repository, id, target('restored'), 'raw', place);
      execFileSync('cmp', [`${path}.${id}`, target('restored')], { timeout: 20_000 });
      expect(statSync(target('restored')).blocks * 512).toBeLessThan(2 ** 20);
      rmSync(target('restored'));
    }
    const verified: string[] = [];
    for await (const { backupId, damage: found } of test.repository.verifyDisk(place, { quick: false })) {
      expect(found).toEqual([]);
      verified.push(backupId);
    }
    expect(verified).toEqual(ids);
  });
});

describe('a long chain', () => {
  const LONG = 18;
  it.each([
    ['gone', (image: string) => rmSync(image), 'is missing'],
    ['cut', (image: string) => truncateSync(image, statSync(image).size - 512), 'bytes instead of'],
  ])('an image of which is %s is refused before anything is written', async (_what, harm, said) => {
    const chain = [full, child];
    while (chain.length < LONG) chain.push((await backUp(test.repository, openRawReader(bytesSource(second)))).sidecar);
    const [, harmed = child] = chain;
    harm(imageOf(harmed));
    const ids = chain.map((sidecar) => sidecar.backup_id);
    for (const hint of [ids, undefined])
      await expect(test.repository.openBackup(PLACE, String(ids.at(-1)), hint)).rejects.toMatchObject({
        code: 'CHAIN_CORRUPT',
        message: expect.stringContaining(said),
        context: { backup_id: harmed.backup_id },
      });
  });
});
