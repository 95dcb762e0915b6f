// Backups of sources that know what changed: nothing else is read, everything else stays as the parent has it.

import { describe, expect, it } from 'vitest';
import type { ChangeTracking } from '../../src/disk/change-list.ts';
import type { DiskReader } from '../../src/disk/disk-reader.ts';
import type { ByteRange } from '../../src/disk/extent.ts';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { isChainkeepError } from '../../src/plumbing/errors.ts';
import { bytesSource, changeDisk, noiseBytes, opaqueDisk, randomNumbers, resizeDisk } from './model-disk.ts';
import { scratchFolder } from './scratch-folder.ts';
import { backUp, findDamage, makeRepository, requestFor, restoredBytes } from './scratch-repository.ts';

const scratch = scratchFolder();

function tracking(mark: string, stretches: readonly ByteRange[], otherwise: ChangeTracking['otherwise'] = 'refuse'): ChangeTracking {
  const list = {
    name: 'the test',
    changed: async function* (): AsyncGenerator<ByteRange> {
      yield* stretches;
    },
  };
  return { name: 'the test', since: (wanted) => (wanted === mark ? list : undefined), otherwise };
}

/** Stretches, cut at odd places, in which two states of a disk differ. */
function differences(before: Buffer, after: Buffer, grain: number): ByteRange[] {
  const stretches: ByteRange[] = [];
  for (let offset = 0; offset < Math.min(before.length, after.length); offset += grain) {
    const end = Math.min(offset + grain, before.length, after.length);
    if (!before.subarray(offset, end).equals(after.subarray(offset, end))) stretches.push({ offset, length: end - offset });
  }
  return stretches;
}

/** The disk as it would be read by somebody who reads more than he may: other bytes wherever nothing changed. */
function poisoned(disk: Buffer, stretches: readonly ByteRange[], clusterSize: number, parentBytes: number): Buffer {
  const bytes = noiseBytes(disk.length, randomNumbers(disk.length));
  const show = (from: number, to: number): number => disk.copy(bytes, from, from, to);
  const down = (offset: number): number => Math.floor(offset / clusterSize) * clusterSize;
  for (const { offset, length } of stretches) show(down(offset), Math.min(disk.length, down(offset + length - 1) + clusterSize));
  if (disk.length > parentBytes) show(down(parentBytes), disk.length);
  return bytes;
}

describe('a backup of what changed', () => {
  it.each([
    { clusterSize: 512, size: 9_000_077, compression: 'none', open: (bytes: Buffer) => openRawReader(bytesSource(bytes)) },
    { clusterSize: 4096, size: 700_001, compression: 'zstd', open: (bytes: Buffer) => opaqueDisk(bytes, 3000) },
    { clusterSize: 65_536, size: 4_000_000, compression: 'zstd', open: (bytes: Buffer) => opaqueDisk(bytes, 100_000) },
  ] as const)('of $size bytes in clusters of $clusterSize is the disk, whatever else can be read', async (shape) => {
    const { clusterSize, compression, open } = shape;
    const { repository } = await makeRepository(scratch(`repository-${clusterSize}`));
    const random = randomNumbers(clusterSize);
    let disk: Buffer = Buffer.alloc(shape.size);
    changeDisk(disk, 12, 64 * 1024, random);
    const states: { readonly id: string; readonly disk: Buffer }[] = [];
    const { sidecar } = await backUp(repository, open(disk), { clusterSize, compression, changeId: 'mark-0' });
    const full = disk;
    states.push({ id: sidecar.backup_id, disk });
    for (let round = 1; round < 7; round += 1) {
      const type = round === 4 ? 'differential' : 'incremental';
      const before = type === 'differential' ? full : disk;
      const since = type === 'differential' ? 'mark-0' : `mark-${round - 1}`;
      const after = round === 3 ? resizeDisk(disk, disk.length + 70_001, random) : Buffer.from(disk);
      changeDisk(after, 5, 16 * 1024, random);
      const stretches = differences(before, after, 777);
      const reader = open(poisoned(after, stretches, clusterSize, before.length));
      const changes = tracking(since, stretches);
      const created = await backUp(repository, reader, { type, compression, changes, changeId: `mark-${round}` });
      expect(created.sidecar.backup_type).toBe(type);
      states.push({ id: created.sidecar.backup_id, disk: after });
      disk = after;
    }
    for (const state of states) {
      const bytes = await restoredBytes(repository, state.id, scratch('restored'));
      expect(bytes.equals(state.disk), state.id).toBe(true);
    }
    expect(await findDamage(repository)).toEqual([]);
  });

  it('stores no more than its plan says, and reads the changed clusters alone', async () => {
    const { repository } = await makeRepository(scratch('bounds'));
    const disk = noiseBytes(8 * 2 ** 20, randomNumbers(3));
    await backUp(repository, opaqueDisk(disk), { changeId: 'a' });
    disk.fill(7, 100_000, 100_001);
    const changes = tracking('a', [{ offset: 100_000, length: 1 }]);
    const request = requestFor(opaqueDisk(disk), { changes });
    const plan = await repository.planBackup(request);
    expect(plan.changes).toMatchObject({ isMissed: false, reason: expect.stringContaining('only what the test tells') });
    const { sidecar } = await backUp(repository, opaqueDisk(disk), { changes });
    expect(sidecar.bytes_read).toBe(65_536);
    expect(sidecar.size_bytes).toBeLessThanOrEqual(plan.mostBytes);
    expect(plan.mostBytes).toBeLessThan(8 * 65_536);
  });
});

describe('a list with another mark', () => {
  const disk = noiseBytes(300_000, randomNumbers(1));
  const reader = (): DiskReader => opaqueDisk(disk);

  it('than the parent is refused, or all is compared, as its source wishes', async () => {
    const { repository } = await makeRepository(scratch('marks'));
    await backUp(repository, reader(), { changeId: 'a' });
    await backUp(repository, reader(), { changeId: 'b' });
    const plan = (changes: ChangeTracking, type: 'auto' | 'full' | 'incremental' | 'differential' = 'auto') =>
      repository.planBackup(requestFor(reader(), { type, changes }));
    await expect(plan(tracking('a', []))).rejects.toSatisfy((error) => isChainkeepError(error, 'CHANGE_ID_MISMATCH'));
    await expect(plan(tracking('b', []), 'differential')).rejects.toThrow(/the full/);
    expect((await plan(tracking('b', []))).changed?.count).toBe(0);
    expect((await plan(tracking('a', []), 'differential')).changed?.count).toBe(0);
    const compared = await plan(tracking('a', [], 'compare'));
    expect([compared.changed, compared.changes.isMissed]).toEqual([undefined, true]);
    const full = await plan(tracking('b', []), 'full');
    expect([full.changed, full.changes.isMissed, full.changes.reason]).toEqual([undefined, false, expect.stringContaining('not used')]);
  });

  it('is none where the parent was kept without one', async () => {
    const { repository } = await makeRepository(scratch('markless'));
    await backUp(repository, reader());
    const request = requestFor(reader(), { changes: tracking('', []) });
    await expect(repository.planBackup(request)).rejects.toThrow(/without a change id/);
  });
});

it('does not go by a list that is older than the parent, though the mark is the same', async () => {
  const { repository } = await makeRepository(scratch('older'));
  const disk = noiseBytes(1_000_000, randomNumbers(7));
  const { sidecar } = await backUp(repository, openRawReader(bytesSource(disk)), { changeId: 'b0' });
  changeDisk(disk, 3, 64 * 1024, randomNumbers(8));
  const old = { ...tracking('b0', [], 'compare'), asOf: Date.parse(sidecar.started_at) - 1 };
  const request = requestFor(openRawReader(bytesSource(disk)), { type: 'incremental', changes: old });
  expect((await repository.planBackup(request)).changes).toMatchObject({ isMissed: true, reason: expect.stringContaining('begun later') });
  const { sidecar: child } = await backUp(repository, openRawReader(bytesSource(disk)), { type: 'incremental', changes: old });
  expect(await restoredBytes(repository, child.backup_id, scratch('older.raw'))).toEqual(disk);
});
