// A repository as a whole: who owns it, what lies in it, what may be deleted.

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { loadBlake3 } from '../../src/plumbing/blake3.ts';
import { silentLogger } from '../../src/plumbing/logger.ts';
import { diskFolder, MARKER_NAME, parseFileName } from '../../src/repository/layout.ts';
import { readMarker } from '../../src/repository/marker.ts';
import { claimRepository, openRepository, type RepositoryOptions } from '../../src/repository/repository.ts';
import { encodeSealed } from '../../src/repository/sealed-json.ts';
import type { Sidecar } from '../../src/repository/sidecar-fields.ts';
import { openLocalStore } from '../../src/store/local/local-store.ts';
import { faultyStore } from '../../src/store/testing/faulty-store.ts';
import { bytesSource, noiseBytes, randomNumbers } from './model-disk.ts';
import { scratchFolder } from './scratch-folder.ts';
import {
  backUp,
  findDamage,
  heldGuard,
  INSTALLATION,
  makeRepository,
  PLACE,
  restoredBytes,
  steppingClock,
  type TestRepository,
} from './scratch-repository.ts';

const scratch = scratchFolder();
const blake3 = await loadBlake3();
const clock = steppingClock();
const CLUSTER = 4096;
let made = 0;
let test: TestRepository;

beforeEach(async () => {
  made++;
  test = await makeRepository(scratch(`repository-${made}`));
});

const disk = (seed: number, clusters = 3): Buffer => noiseBytes(clusters * CLUSTER, randomNumbers(seed));

async function take(bytes: Buffer, change: Parameters<typeof backUp>[2] = {}): Promise<Sidecar> {
  return (await backUp(test.repository, openRawReader(bytesSource(bytes)), { clusterSize: CLUSTER, ...change })).sidecar;
}

function options(change: Partial<RepositoryOptions> = {}): RepositoryOptions {
  return { store: test.store, clock, logger: silentLogger, repositoryId: test.id, installationId: INSTALLATION, ...change };
}

describe('the owner of a repository', () => {
  it('is who claimed it, once and for all, until somebody takes it over', async () => {
    const again = await claimRepository({ store: test.store, clock, installationId: INSTALLATION, takeOver: false });
    expect(again.repository_id).toBe(test.id);
    const other = { store: test.store, clock, installationId: 'other' };
    await expect(claimRepository({ ...other, takeOver: false })).rejects.toMatchObject({
      code: 'REPOSITORY_FOREIGN',
      context: { owner: INSTALLATION },
    });
    expect((await openRepository(options({ installationId: 'other' }))).readOnly).toBe(true);
    const taken = await claimRepository({ ...other, takeOver: true });
    expect(taken).toMatchObject({ repository_id: test.id, owner: 'other' });
    expect((await openRepository(options())).readOnly).toBe(true);
    await expect(take(disk(1))).rejects.toMatchObject({ code: 'REPOSITORY_FOREIGN' });
    expect(existsSync(test.folder)).toBe(false);
  });

  it('is one of several that claim an empty folder at once', async () => {
    const root = scratch(`race-${made}`);
    const store = await openLocalStore(root, { create: true });
    const claims = Array.from({ length: 8 }, (_, index) => claimRepository({ store, clock, installationId: `i${index}`, takeOver: false }));
    const results = await Promise.allSettled(claims);
    const won = results.filter((result) => result.status === 'fulfilled');
    expect(won.length).toBe(1);
    for (const result of results) if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'REPOSITORY_FOREIGN' });
    expect(readdirSync(root)).toEqual([MARKER_NAME]);
  });

  it('is nobody where other files lie, or the marker is damaged, gone, or of another repository', async () => {
    const root = scratch(`pictures-${made}`);
    mkdirSync(root);
    writeFileSync(join(root, 'picture.jpg'), 'x');
    const store = await openLocalStore(root, { create: false });
    await expect(claimRepository({ store, clock, installationId: INSTALLATION, takeOver: true })).rejects.toMatchObject({
      code: 'REPOSITORY_NOT_EMPTY',
    });
    expect(readdirSync(root)).toEqual(['picture.jpg']);
    await expect(openRepository(options({ store }))).rejects.toMatchObject({ code: 'REPOSITORY_OFFLINE', retryable: true });
    await expect(openRepository(options({ repositoryId: 'another' }))).rejects.toMatchObject({ code: 'REPOSITORY_INVALID' });
    const path = join(test.root, MARKER_NAME);
    const good = readFileSync(path);
    for (let offset = 0; offset < good.length; offset++) {
      for (const mask of [1 << (offset % 8), 0xff]) {
        const flipped = Buffer.from(good);
        flipped.writeUInt8((good[offset] ?? 0) ^ mask, offset);
        writeFileSync(path, flipped);
        await expect(openRepository(options()), `byte ${offset}`).rejects.toMatchObject({ code: 'REPOSITORY_INVALID' });
      }
    }
    for (const bytes of [Buffer.alloc(0), good.subarray(0, -1), Buffer.concat([good, Buffer.from('\n')]), Buffer.alloc(100_000, ' ')]) {
      writeFileSync(path, bytes);
      await expect(openRepository(options())).rejects.toMatchObject({ code: 'REPOSITORY_INVALID' });
    }
    const fields = { format: 1, repository_id: test.id, owner: INSTALLATION, immutability: null, created_at: 'x' };
    for (const change of [
      { format: 2 },
      { repository_id: '../up' },
      { owner: 5 },
      { created_at: null },
      { immutability: 'no' },
      { immutability: [] },
      { immutability: {} },
      { immutability: { min_retention_days: 7, apply_to_incrementals: 'no' } },
    ]) {
      writeFileSync(path, encodeSealed(blake3, { ...fields, ...change }));
      await expect(openRepository(options()), JSON.stringify(change)).rejects.toMatchObject({ code: 'REPOSITORY_INVALID' });
    }
    const immutability = { type: 'linux_chattr', min_retention_days: 7 };
    writeFileSync(path, encodeSealed(blake3, { ...fields, format: 1, immutability }));
    const defaults = {
      grace_period_days: 0,
      apply_to_full_backups: true,
      apply_to_incrementals: true,
      full_after_days: 7,
      full_after_backups: 30,
    };
    expect((await readMarker(test.store, blake3))?.immutability).toEqual({ ...immutability, ...defaults });
  });
});

describe('what lies in a repository', () => {
  it('is listed by disk, and answered by id', async () => {
    const first = await take(disk(1));
    const second = await take(disk(2), { place: { vmContextId: 'vm-b', diskId: 12 } });
    writeFileSync(join(test.root, 'vms', 'notes.txt'), 'not ours');
    mkdirSync(join(test.root, 'vms', 'lost+found'));
    expect(await test.repository.listDisks()).toEqual([PLACE, { vmContextId: 'vm-b', diskId: 12 }]);
    expect(await test.repository.getBackup(PLACE, first.backup_id)).toEqual(first);
    await expect(test.repository.getBackup(PLACE, second.backup_id)).rejects.toMatchObject({ code: 'BACKUP_NOT_FOUND' });
    await expect(test.repository.openBackup(PLACE, second.backup_id)).rejects.toMatchObject({ code: 'BACKUP_NOT_FOUND' });
    expect((await test.repository.getStorageInfo())?.availableBytes).toBeGreaterThan(0);
    const info = await test.repository.readDisk(PLACE);
    expect([info.sidecars, info.rubbish, [...info.damaged]]).toEqual([[first], [], []]);
    expect(await findDamage(test.repository, { place: { vmContextId: 'vm-b', diskId: 12 } })).toEqual([]);
    expect(await findDamage(test.repository, { place: { vmContextId: 'vm-b', diskId: 0 } })).toEqual([]);
  });

  it('belongs to the disk in whose folder it lies', async () => {
    const first = await take(disk(1));
    await take(disk(2), { place: { vmContextId: 'vm-b', diskId: 0 } });
    const other = join(test.root, diskFolder({ vmContextId: 'vm-b', diskId: 0 }));
    for (const name of readdirSync(test.folder)) writeFileSync(join(other, name), readFileSync(join(test.folder, name)));
    const damage = await findDamage(test.repository, { place: { vmContextId: 'vm-b', diskId: 0 } });
    expect(damage.map(({ backupId, code }) => [backupId, code])).toEqual([[first.backup_id, 'SIDECAR_INVALID']]);
  });

  it('is not called damaged when the store fails', async () => {
    await take(disk(1));
    const { store } = faultyStore(test.store, { failAt: 1, operations: ['open'] });
    const repository = await test.through({ ...store, open: test.store.open.bind(test.store) });
    expect((await repository.readDisk(PLACE)).damaged.size).toBe(0);
    const broken = faultyStore(test.store, { failAt: 2, operations: ['read'], sticky: true });
    const failing = await test.through(broken.store);
    await expect(failing.readDisk(PLACE)).rejects.toMatchObject({ code: 'STORE_FAILED' });
  });

  it('has names that no other text becomes', () => {
    for (const [name, kind] of [
      ['vms/a/disk-0/b.qcow2', 'image'],
      ['vms/a/disk-0/b.json', 'sidecar'],
      ['vms/a/disk-10/b.3.digests', 'digests'],
    ]) {
      expect(parseFileName(name ?? '')).toMatchObject({ kind, backupId: 'b' });
    }
    expect(parseFileName('vms/a/disk-0/b.9007199254740991.digests')).toMatchObject({ generation: Number.MAX_SAFE_INTEGER });
    const others = [
      'vms/a/disk-00/b.json',
      'vms/A/disk-0/b.json',
      'vms/a/disk-0/b.json.bak',
      'vms/a/disk-0/-b.json',
      'vms/a/disk--1/b.json',
      'vms/a/disk-0/b.digests',
      'vms/../disk-0/b.json',
      'x/vms/a/disk-0/b.json',
      'vms/a/disk-0/b.qcow2\n',
      `vms/a/disk-0/${'b'.repeat(65)}.json`,
    ];
    for (const name of others) expect(parseFileName(name), name).toBeUndefined();
    expect(() => diskFolder({ vmContextId: '../x', diskId: 0 })).toThrow(expect.objectContaining({ code: 'INTERNAL' }));
    expect(() => diskFolder({ vmContextId: 'x', diskId: -1 })).toThrow(expect.objectContaining({ code: 'INTERNAL' }));
  });
});

describe('a deleted backup', () => {
  it('is gone with all its files, sidecar first; what needs it keeps it', async () => {
    const full = await take(disk(1));
    const bytes = disk(2);
    const child = await take(bytes);
    await expect(test.repository.planDelete(PLACE, full.backup_id)).rejects.toMatchObject({
      code: 'BACKUP_HAS_DEPENDENTS',
      context: { dependents: [child.backup_id] },
    });
    await expect(test.repository.planDelete(PLACE, 'nobody')).rejects.toMatchObject({ code: 'BACKUP_NOT_FOUND' });
    const plan = await test.repository.planDelete(PLACE, child.backup_id);
    expect(plan.files.map((name) => name.split('.').slice(1).join('.'))).toEqual(['json', '1.digests', 'qcow2']);
    expect(plan.freedBytes).toBe(plan.files.reduce((sum, name) => sum + readFileSync(join(test.root, name)).length, 0));
    const lost = heldGuard({ silent: true });
    lost.lose();
    await expect(test.repository.runDelete(plan, lost)).rejects.toMatchObject({ code: 'LEASE_LOST' });
    expect(readdirSync(test.folder).length).toBe(6);
    await test.repository.runDelete(plan, heldGuard());
    expect(readdirSync(test.folder).every((name) => name.startsWith(full.backup_id))).toBe(true);
    await test.repository.runDelete(plan, heldGuard());
    await test.repository.runDelete(await test.repository.planDelete(PLACE, full.backup_id), heldGuard());
    expect(existsSync(test.folder)).toBe(false);
  });

  it('is un-committed first when the delete fails in the middle: its files are rubbish, or it is whole', async () => {
    const full = await take(disk(1));
    for (const sticky of [false, true]) {
      for (let failAt = 1; failAt <= 3; failAt++) {
        const child = await take(disk(2 + failAt));
        const plan = await test.repository.planDelete(PLACE, child.backup_id);
        const { store } = faultyStore(test.store, { failAt, sticky, operations: ['delete'], effect: failAt % 2 ? 'before' : 'after' });
        const repository = await test.through(store);
        await expect(repository.runDelete(plan, heldGuard())).rejects.toMatchObject({ code: 'STORE_FAILED' });
        const { sidecars, damaged } = await test.repository.readDisk(PLACE);
        expect(damaged.size).toBe(0);
        expect(sidecars.length).toBe(failAt === 1 ? 2 : 1);
        await test.repository.runDelete(plan, heldGuard());
        expect(readdirSync(test.folder).length).toBe(3);
      }
    }
    expect(await restoredBytes(test.repository, full.backup_id, scratch('out'))).toEqual(disk(1));
  });

  it('may be a damaged one; but not one that a damaged sidecar may need', async () => {
    const full = await take(disk(1));
    const child = await take(disk(2));
    const sidecar = join(test.folder, `${child.backup_id}.json`);
    writeFileSync(sidecar, readFileSync(sidecar).subarray(0, 500));
    await expect(test.repository.planDelete(PLACE, full.backup_id)).rejects.toMatchObject({
      code: 'CHAIN_CORRUPT',
      context: { damaged_backup_id: child.backup_id },
    });
    await test.repository.runDelete(await test.repository.planDelete(PLACE, child.backup_id), heldGuard());
    await test.repository.runDelete(await test.repository.planDelete(PLACE, full.backup_id), heldGuard());
    expect(existsSync(test.folder)).toBe(false);
  });

  it('is not deleted in a repository that belongs to somebody else by now', async () => {
    const full = await take(disk(1));
    const plan = await test.repository.planDelete(PLACE, full.backup_id);
    await claimRepository({ store: test.store, clock, installationId: 'other', takeOver: true });
    await expect(test.repository.runDelete(plan, heldGuard())).rejects.toMatchObject({ code: 'REPOSITORY_FOREIGN' });
    await expect(test.repository.removeRubbish(PLACE, heldGuard(), async () => 'dead')).rejects.toMatchObject({
      code: 'REPOSITORY_FOREIGN',
    });
    expect(readdirSync(test.folder).length).toBe(3);
  });
});

describe('the next backup', () => {
  it('is younger than every other, whatever the clock says', async () => {
    const first = await take(disk(1));
    const past = await makeRepository(test.root, steppingClock(Date.UTC(2001, 1, 1)));
    const second = await backUp(past.repository, openRawReader(bytesSource(disk(2))));
    expect(second.sidecar.backup_id > first.backup_id).toBe(true);
    expect(second.sidecar.parent_backup_id).toBe(first.backup_id);
  });

  it('starts a new chain where an ancestor is known to be damaged, or its files are missing', async () => {
    const full = await take(disk(1));
    const child = await take(disk(2));
    expect((await take(disk(3), { damaged: new Set([full.backup_id]) })).backup_type).toBe('full');
    const newFull = await take(disk(3), { type: 'full' });
    expect((await take(disk(4))).parent_backup_id).toBe(newFull.backup_id);
    rmSync(join(test.folder, `${newFull.backup_id}.qcow2`));
    expect((await take(disk(4))).backup_type).toBe('full');
    await expect(
      take(disk(5), {
        type: 'incremental',
        damaged: new Set((await test.repository.readDisk(PLACE)).sidecars.map(({ backup_id: id }) => id)),
      }),
    ).rejects.toMatchObject({ code: 'CHAIN_CORRUPT' });
    expect(await restoredBytes(test.repository, child.backup_id, scratch('out'))).toEqual(disk(2));
  });

  it('refuses a disk that its clusters cannot map', async () => {
    const huge = { ...openRawReader(bytesSource(Buffer.alloc(0))), size: 2 ** 40 };
    await expect(backUp(test.repository, huge, { clusterSize: 512 })).rejects.toMatchObject({ code: 'DISK_SIZE_INVALID' });
    expect(existsSync(test.folder)).toBe(false);
  });

  it('reads as the same content root, plain or compressed, in another repository too', async () => {
    const bytes = Buffer.concat([disk(1, 5), Buffer.alloc(20_000, 'text '), Buffer.alloc(9000), disk(2, 1)]);
    const plain = await take(bytes, { type: 'full', compression: 'none' });
    const packed = await take(bytes, { type: 'full', compression: 'zstd' });
    const chained = await take(disk(9, 9), { compression: 'zstd' });
    const back = await take(bytes, { compression: 'none' });
    expect(packed.content_root).toBe(plain.content_root);
    expect(back.content_root).not.toBe(chained.content_root);
    const shorter = await take(bytes.subarray(0, -1), { type: 'full' });
    expect(shorter.content_root).not.toBe(plain.content_root);
    // The chain grew to nine clusters of another disk and the content is back, at its own size.
    expect(back.content_root === plain.content_root).toBe(back.total_bytes === bytes.length);
    const same = await backUp((await makeRepository(scratch(`other-${made}`))).repository, openRawReader(bytesSource(bytes)), {
      clusterSize: CLUSTER,
    });
    expect(same.sidecar.content_root).toBe(plain.content_root);
    expect(new Set([plain, packed].map((sidecar) => sidecar.digests.root)).size).toBe(2);
  });

  it('stores nothing where nothing changed, and says what it read and wrote', async () => {
    const bytes = disk(1, 20);
    const full = await take(bytes);
    const created = await backUp(test.repository, openRawReader(bytesSource(bytes)));
    expect(created).toMatchObject({
      bytesWritten: 0,
      clustersWritten: 0,
      sidecar: { content_root: full.content_root, bytes_read: bytes.length },
    });
    bytes.fill(0, CLUSTER, 2 * CLUSTER);
    const zeroed = await backUp(test.repository, openRawReader(bytesSource(bytes)));
    expect(zeroed).toMatchObject({ bytesWritten: 0, clustersWritten: 0 });
    expect(zeroed.sidecar.content_root).not.toBe(full.content_root);
    bytes.set(disk(1, 20).subarray(CLUSTER, 2 * CLUSTER), CLUSTER);
    const back = await backUp(test.repository, openRawReader(bytesSource(bytes)));
    expect(back).toMatchObject({ bytesWritten: CLUSTER, clustersWritten: 1, sidecar: { content_root: full.content_root } });
    expect(await findDamage(test.repository)).toEqual([]);
  });
});
