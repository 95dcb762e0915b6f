// Verify names damage, where it lies and whom it hits; a clean repository is clean every time.

import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { loadBlake3 } from '../../src/plumbing/blake3.ts';
import { RECORD, RECORD_BYTES } from '../../src/repository/digests-format.ts';
import { DigestsReader } from '../../src/repository/digests-reader.ts';
import { DigestsWriter } from '../../src/repository/digests-writer.ts';
import { encodeSidecar } from '../../src/repository/sidecar.ts';
import type { Sidecar } from '../../src/repository/sidecar-fields.ts';
import { bytesSource, noiseBytes, randomNumbers, textBytes } from './model-disk.ts';
import { scratchFolder } from './scratch-folder.ts';
import { backUp, findDamage, makeRepository, restoredBytes, type TestRepository } from './scratch-repository.ts';
import { CLUSTER, makeSmallRepository, type SmallRepository } from './small-repository.ts';

const scratch = scratchFolder();
let made = 0;

async function makeSmall(compression: 'none' | 'zstd' = 'none'): Promise<SmallRepository> {
  made++;
  return makeSmallRepository(scratch(`small-${made}`), compression, made);
}

const imageOf = (test: TestRepository, { backup_id: id }: Sidecar): string => join(test.folder, `${id}.qcow2`);
const digestsOf = (test: TestRepository, { backup_id: id }: Sidecar): string => join(test.folder, `${id}.1.digests`);
const sidecarOf = (test: TestRepository, { backup_id: id }: Sidecar): string => join(test.folder, `${id}.json`);
const ids = (...sidecars: readonly Sidecar[]): string[] => sidecars.map((sidecar) => sidecar.backup_id);

/** Offset in the image of a cluster's bytes, found by what they are. */
function findCluster(image: string, bytes: Uint8Array): number {
  const at = readFileSync(image).indexOf(bytes);
  expect(at, 'the cluster lies in the image').toBeGreaterThan(0);
  return at;
}

function flip(path: string, offset: number): void {
  const bytes = readFileSync(path);
  bytes.writeUInt8((bytes[offset] ?? 0) ^ 0x40, offset);
  writeFileSync(path, bytes);
}

function swapBytes(path: string, a: number, b: number, length: number): void {
  const bytes = readFileSync(path);
  const first = Buffer.from(bytes.subarray(a, a + length));
  bytes.copyWithin(a, b, b + length);
  bytes.set(first, b);
  writeFileSync(path, bytes);
}

async function expectNotRestored(small: SmallRepository, sidecar: Sidecar, code: string): Promise<void> {
  await expect(restoredBytes(small.repository, sidecar.backup_id, scratch('out'))).rejects.toMatchObject({ code });
}

async function expectRestored(small: SmallRepository, sidecar: Sidecar): Promise<void> {
  const bytes = await restoredBytes(small.repository, sidecar.backup_id, scratch('out'));
  expect(bytes.equals(small.disks.get(sidecar.backup_id) ?? Buffer.alloc(0))).toBe(true);
}

describe('verify', () => {
  it('finds nothing in a clean repository, however often it looks', async () => {
    for (const compression of ['none', 'zstd'] as const) {
      const small = await makeSmall(compression);
      for (let round = 0; round < 5; round++) {
        const seen: string[] = [];
        for await (const { backupId, damage, clusters, bytes } of small.repository.verifyDisk(
          { vmContextId: 'vm-a', diskId: 0 },
          { quick: round === 0 },
        )) {
          seen.push(backupId);
          expect(damage).toEqual([]);
          expect(clusters > 0 && bytes > 0).toBe(round > 0);
        }
        expect(seen).toEqual(ids(...small.sidecars));
      }
    }
  });

  it('names the cluster, and only the restore points that still read it', async () => {
    const small = await makeSmall();
    const disk = small.disks.get(small.full.backup_id) ?? Buffer.alloc(0);
    const image = imageOf(small, small.full);
    const hitBy = new Map([
      [0, ids(small.full, small.incremental, small.differential)],
      [2, ids(small.full, small.differential)],
      [3, ids(small.full, small.differential)],
      [4, ids(small.full, small.incremental)],
    ]);
    for (const [cluster, affects] of hitBy) {
      flip(image, findCluster(image, disk.subarray(cluster * CLUSTER, (cluster + 1) * CLUSTER)) + 100);
      const damage = await findDamage(small.repository);
      expect(damage).toEqual([
        {
          backupId: small.full.backup_id,
          code: 'DIGEST_MISMATCH',
          message: 'the cluster is not what was backed up',
          guestOffset: cluster * CLUSTER,
          length: CLUSTER,
          affects,
        },
      ]);
      expect(await findDamage(small.repository, { quick: true })).toEqual([]);
      for (const sidecar of small.sidecars) {
        if (affects.includes(sidecar.backup_id)) await expectNotRestored(small, sidecar, 'DIGEST_MISMATCH');
        else await expectRestored(small, sidecar);
      }
      small.heal();
    }
  });

  it('names the neighbours of a fault as one range, and every fault', async () => {
    const small = await makeSmall();
    const disk = small.disks.get(small.full.backup_id) ?? Buffer.alloc(0);
    const image = imageOf(small, small.full);
    for (const cluster of [0, 1, 4]) flip(image, findCluster(image, disk.subarray(cluster * CLUSTER, (cluster + 1) * CLUSTER)));
    const damage = await findDamage(small.repository);
    expect(damage.map(({ guestOffset, length }) => [guestOffset, length])).toEqual([
      [0, 2 * CLUSTER],
      [4 * CLUSTER, CLUSTER],
    ]);
  });

  it('finds two clusters that changed places, plain and compressed', async () => {
    const plain = await makeSmall('none');
    const disk = plain.disks.get(plain.full.backup_id) ?? Buffer.alloc(0);
    const image = imageOf(plain, plain.full);
    swapBytes(image, findCluster(image, disk.subarray(0, CLUSTER)), findCluster(image, disk.subarray(CLUSTER, 2 * CLUSTER)), CLUSTER);
    expect((await findDamage(plain.repository)).map(({ guestOffset, length }) => [guestOffset, length])).toEqual([[0, 2 * CLUSTER]]);
    await expectNotRestored(plain, plain.incremental, 'DIGEST_MISMATCH');

    const test = await makeRepository(scratch('swapped'));
    // Two texts whose streams have one length.
    const [a, b] = [Buffer.alloc(CLUSTER, 'first line of text\n'), Buffer.alloc(CLUSTER, 'other line of text\n')];
    const reader = openRawReader(bytesSource(Buffer.concat([a, b])));
    const { sidecar } = await backUp(test.repository, reader, { compression: 'zstd', clusterSize: CLUSTER });
    const path = imageOf(test, sidecar);
    const bytes = readFileSync(path);
    const frame = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);
    const first = bytes.indexOf(frame);
    const second = bytes.indexOf(frame, first + 4);
    expect(first).toBeGreaterThan(0);
    swapBytes(path, first, second, second - first);
    const damage = await findDamage(test.repository);
    expect(damage.map(({ code, guestOffset, length }) => [code, guestOffset, length])).toEqual([['DIGEST_MISMATCH', 0, 2 * CLUSTER]]);
    await expect(restoredBytes(test.repository, sidecar.backup_id, scratch('out'))).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
  });

  it('finds what lies behind the end of the disk in its last cluster, which a disk that grew reads', async () => {
    const test = await makeRepository(scratch('grown'));
    const random = randomNumbers(1);
    const first = noiseBytes(700, random);
    const full = await backUp(test.repository, openRawReader(bytesSource(first)), { clusterSize: 4096 });
    const second = Buffer.concat([first, Buffer.alloc(2000)]);
    const grown = await backUp(test.repository, openRawReader(bytesSource(second)), {});
    expect(grown.clustersWritten).toBe(0);
    const image = imageOf(test, full.sidecar);
    for (const [behind, restored] of [
      [0, false],
      [300, false],
      [324, true],
      [3000, true],
    ] as const) {
      const good = readFileSync(image);
      flip(image, findCluster(image, first) + 700 + behind);
      const damage = await findDamage(test.repository);
      expect(damage.map(({ backupId, code, affects }) => [backupId, code, affects])).toEqual([
        [full.sidecar.backup_id, 'CHAIN_CORRUPT', ids(full.sidecar, grown.sidecar)],
      ]);
      // The image's own size is a whole number of sectors: what lies in there behind the disk is read by what stands on it.
      const outcome = await restoredBytes(test.repository, grown.sidecar.backup_id, scratch('out')).catch((error: unknown) => error);
      if (restored) expect(outcome).toEqual(second);
      else expect(outcome).toMatchObject({ code: 'DIGEST_MISMATCH' });
      writeFileSync(image, good);
    }
    expect(await findDamage(test.repository)).toEqual([]);
  });
});

const FILES = [
  ['image', imageOf],
  ['digests', digestsOf],
  ['sidecar', sidecarOf],
] as const;

describe.each(FILES)('the %s of a backup', (kind, pathOf) => {
  it('is named when it is missing, with everything that stands on it', async () => {
    const small = await makeSmall();
    for (const sidecar of small.sidecars) {
      rmSync(pathOf(small, sidecar));
      const damage = await findDamage(small.repository, { quick: true });
      const standing = sidecar === small.full ? small.sidecars : [sidecar];
      if (kind !== 'sidecar') {
        const own = damage.filter((found) => found.backupId === sidecar.backup_id);
        expect(new Set(own.flatMap((found) => found.affects))).toEqual(new Set(ids(...standing)));
      } else {
        // A backup without its sidecar is none any more: what stood on it is named, the backup itself is missed by the catalog.
        const left = standing.filter((other) => other !== sidecar);
        expect(damage.map((found) => [found.backupId, found.code])).toEqual(ids(...left).map((id) => [id, 'PARENT_NOT_FOUND']));
      }
      for (const other of standing) {
        const outcome = await restoredBytes(small.repository, other.backup_id, scratch('out')).catch((error: unknown) => error);
        expect(outcome).toMatchObject({ code: expect.stringMatching(/^(CHAIN_CORRUPT|BACKUP_NOT_FOUND|PARENT_NOT_FOUND)$/) });
      }
      small.heal();
    }
  });

  it('is named when it is cut, grown or empty', async () => {
    const small = await makeSmall('zstd');
    for (const sidecar of small.sidecars) {
      const path = pathOf(small, sidecar);
      const { length } = readFileSync(path);
      for (const size of [length - 1, length - 100, Math.floor(length / 2), 100, 1, 0]) {
        truncateSync(path, size);
        await expectNamed(small, sidecar, `cut to ${size}`);
      }
      appendFileSync(path, Buffer.alloc(1));
      await expectNamed(small, sidecar, 'one zero more');
      appendFileSync(path, Buffer.alloc(100_000));
      await expectNamed(small, sidecar, 'many zeros more');
    }
  });

  it('is named when it is that of another backup', async () => {
    const small = await makeSmall();
    for (const [a, b] of [
      [small.full, small.incremental],
      [small.incremental, small.differential],
    ] as const) {
      renameSync(pathOf(small, a), scratch('swap'));
      renameSync(pathOf(small, b), pathOf(small, a));
      renameSync(scratch('swap'), pathOf(small, b));
      const named = new Set((await findDamage(small.repository, { quick: true })).map((found) => found.backupId));
      expect([...ids(a, b)].every((id) => named.has(id))).toBe(true);
      await expectBroken(small, a);
      await expectBroken(small, b);
      small.heal();
    }
  });

  it('is named when it is an older one of the same disk', async () => {
    // The same ids in two repositories that went different ways, as a copy of a folder does.
    const small = await makeSmall();
    const others = await makeSmall();
    for (const sidecar of small.sidecars) {
      const index = small.sidecars.indexOf(sidecar);
      const other = others.sidecars[index];
      if (!other) throw new Error('both have three backups');
      copyFileSync(pathOf(others, other), pathOf(small, sidecar));
      await expectNamed(small, sidecar, 'older');
    }
  });

  async function expectNamed(small: SmallRepository, sidecar: Sidecar, how: string): Promise<void> {
    const damage = await findDamage(small.repository, { quick: true });
    const own = damage.filter((found) => found.backupId === sidecar.backup_id);
    expect(own.length, `${kind} ${how}`).toBeGreaterThan(0);
    const standing = sidecar === small.full ? small.sidecars : [sidecar];
    expect(new Set(own.flatMap((found) => found.affects)), `${kind} ${how}`).toEqual(new Set(ids(...standing)));
    await expectBroken(small, sidecar);
    small.heal();
  }

  async function expectBroken(small: SmallRepository, sidecar: Sidecar): Promise<void> {
    const outcome = await restoredBytes(small.repository, sidecar.backup_id, scratch('out')).catch((error: unknown) => error);
    expect(outcome).toMatchObject({ name: 'ChainkeepError' });
  }
});

describe('a folder of a disk', () => {
  it('whose whole backup is that of another repository is found by what stands on it', async () => {
    const small = await makeSmall();
    const test = await makeRepository(scratch('imposter'));
    const imposter = await backUp(test.repository, openRawReader(bytesSource(Buffer.alloc(3000, 'x'))), {
      type: 'full',
      clusterSize: CLUSTER,
    });
    // All three files fit each other, and the folder; only the content is not the one the others were made on.
    for (const file of readdirSync(test.folder)) copyFileSync(join(test.folder, file), join(small.folder, file));
    expect(await findDamage(small.repository)).toEqual([]);
    for (const pathOf of [imageOf, digestsOf, sidecarOf]) rmSync(pathOf(small, small.full));
    const damage = await findDamage(small.repository);
    expect(damage.map(({ backupId, code }) => [backupId, code])).toEqual(
      ids(small.incremental, small.differential).map((id) => [id, 'PARENT_NOT_FOUND']),
    );
    expect(imposter.sidecar.backup_id > small.full.backup_id).toBe(true);
  });

  it('may hold a sidecar of any size: too large a one is damage of that backup and of no other', async () => {
    const small = await makeSmall();
    writeFileSync(sidecarOf(small, small.differential), Buffer.alloc(5 << 20, ' '));
    expect((await findDamage(small.repository)).map(({ backupId, code }) => [backupId, code])).toEqual([
      [small.differential.backup_id, 'SIDECAR_INVALID'],
    ]);
    await expectRestored(small, small.incremental);
    await expectNotRestored(small, small.differential, 'SIDECAR_INVALID');
  });

  it('may hold files that are not ours', async () => {
    const small = await makeSmall();
    mkdirSync(join(small.folder, 'a folder'));
    writeFileSync(join(small.folder, 'notes.txt'), textBytes(100, randomNumbers(1)));
    writeFileSync(join(small.folder, `${small.full.backup_id}.qcow2.bak`), 'x');
    expect(await findDamage(small.repository)).toEqual([]);
  });

  it('is looked at only as far as was asked: a backup with everything under it', async () => {
    const small = await makeSmall();
    const image = imageOf(small, small.full);
    const disk = small.disks.get(small.full.backup_id) ?? Buffer.alloc(0);
    flip(image, findCluster(image, disk.subarray(0, CLUSTER)));
    flip(imageOf(small, small.differential), 3);
    const named = (await findDamage(small.repository, { only: ids(small.incremental) })).map((found) => found.backupId);
    expect(named).toEqual(ids(small.full));
    expect(await findDamage(small.repository, { only: ['no-such-backup'] })).toEqual([]);
  });

  it('counts everything as hit where it cannot be known who still reads a damaged cluster', async () => {
    const small = await makeSmall();
    const disk = small.disks.get(small.full.backup_id) ?? Buffer.alloc(0);
    flip(imageOf(small, small.full), findCluster(imageOf(small, small.full), disk.subarray(2 * CLUSTER, 3 * CLUSTER)));
    flip(digestsOf(small, small.incremental), 100);
    const damage = await findDamage(small.repository);
    expect(damage.map(({ backupId, code, affects }) => [backupId, code, affects])).toEqual([
      [small.full.backup_id, 'DIGEST_MISMATCH', ids(...small.sidecars)],
      [small.incremental.backup_id, 'DIGESTS_INVALID', ids(small.incremental)],
    ]);
  });

  it('is corrupt where its digests, each whole in itself, do not give the content root', async () => {
    const small = await makeSmall();
    const { full } = small;
    // The records are true, and their hash is that of something else: only who computes it again can see that.
    const blake3 = await loadBlake3();
    const name = `vms/vm-a/disk-0/${full.digests.name}`;
    const { cluster_size: clusterSize, generation } = full.qcow2;
    const header = { clusterSize, totalBytes: full.total_bytes, generation };
    const reader = await DigestsReader.open(await small.store.open(name), blake3, {
      ...header,
      backupId: full.backup_id,
      root: full.digests.root,
      contentRoot: full.content_root,
    });
    const section = await reader.section(0);
    await reader.close();
    const records = section?.records ?? Buffer.alloc(0);
    const writer = new DigestsWriter(await small.store.put(name), blake3, header, new Uint8Array(0));
    for (let at = 0; at < records.length; at += RECORD_BYTES) {
      const digest = records.subarray(at + RECORD.DIGEST, at + RECORD_BYTES);
      writer.add(0, records.readUInt16BE(at + RECORD.CLUSTER), { kind: records.readUInt8(at + RECORD.KIND), digest });
    }
    await writer.closeRange(0, Buffer.alloc(32, 7));
    const { root, contentRoot } = await writer.finish();
    const forged = { ...full, content_root: contentRoot, digests: { ...full.digests, root } };
    writeFileSync(sidecarOf(small, full), encodeSidecar(blake3, forged));
    const damage = await findDamage(small.repository, { quick: true, only: ids(full) });
    expect(damage.map(({ code, message }) => [code, message])).toEqual([
      ['CHAIN_CORRUPT', `the digests of the chain of backup ${full.backup_id} do not give its content root`],
    ]);
    expect((await findDamage(small.repository, { quick: true })).length).toBe(3);
  });

  it('can be left in the middle', async () => {
    const small = await makeSmall();
    const controller = new AbortController();
    const walk = small.repository.verifyDisk({ vmContextId: 'vm-a', diskId: 0 }, { quick: false, signal: controller.signal });
    const seen: string[] = [];
    await expect(
      (async () => {
        for await (const { backupId } of walk) {
          seen.push(backupId);
          controller.abort();
        }
      })(),
    ).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(seen).toEqual(ids(small.full));
  });
});
