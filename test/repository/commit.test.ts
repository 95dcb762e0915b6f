// What may happen around a commit: the lease goes, the marker goes, the parent goes, the source changes, somebody says stop.

import { closeSync, existsSync, openSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import type { DiskReader } from '../../src/disk/disk-reader.ts';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { loadBlake3 } from '../../src/plumbing/blake3.ts';
import { ChainkeepError } from '../../src/plumbing/errors.ts';
import { openFileSource } from '../../src/plumbing/file-source.ts';
import type { BackupRequest, BackupRun } from '../../src/repository/create-backup.ts';
import { MARKER_NAME } from '../../src/repository/layout.ts';
import { claimRepository } from '../../src/repository/repository.ts';
import { encodeSidecar } from '../../src/repository/sidecar.ts';
import type { Sidecar } from '../../src/repository/sidecar-fields.ts';
import type { BlobStore } from '../../src/store/blob-store.ts';
import { faultyStore } from '../../src/store/testing/faulty-store.ts';
import { listLeftovers } from '../../src/store/testing/store-probe.ts';
import { aroundStore } from '../../src/store/wrap/around-store.ts';
import { bytesSource, noiseBytes, opaqueDisk, randomNumbers } from './model-disk.ts';
import { scratchFolder } from './scratch-folder.ts';
import {
  backUp,
  findDamage,
  heldGuard,
  makeRepository,
  PLACE,
  requestFor,
  restoredBytes,
  type TestGuard,
  type TestRepository,
} from './scratch-repository.ts';

const scratch = scratchFolder();
const CLUSTER = 4096;
const random = randomNumbers(1);
const first = noiseBytes(20 * CLUSTER, random);
const second = Buffer.concat([noiseBytes(2 * CLUSTER, random), first.subarray(2 * CLUSTER)]);
let made = 0;
let test: TestRepository;
let parent: Sidecar;

beforeEach(async () => {
  made++;
  test = await makeRepository(scratch(`repository-${made}`));
  parent = (await backUp(test.repository, openRawReader(bytesSource(first)), { clusterSize: CLUSTER })).sidecar;
});

/** Reads like `bytes`, and calls `act` at the first read of data. */
function interrupted(bytes: Buffer, act: () => void | Promise<void>): DiskReader {
  const disk = opaqueDisk(bytes, CLUSTER);
  let done = false;
  return {
    ...disk,
    read: async (buffer, offset) => {
      if (!done) {
        done = true;
        await act();
      }
      await disk.read(buffer, offset);
    },
  };
}

/** A store that calls `act` when the sidecar of a backup has been written. */
function afterCommit(store: BlobStore, act: (name: string) => void | Promise<void>): BlobStore {
  return aroundStore(store, {
    around: async ({ operation, name }, call) => {
      const result = await call();
      if (operation === 'finish' && name.endsWith('.json')) await act(name);
      return result;
    },
  });
}

function attempt(
  reader: DiskReader,
  run: Partial<BackupRun> = {},
  change: Partial<BackupRequest> = {},
  repository = test.repository,
): Promise<unknown> {
  return backUp(repository, reader, { type: 'incremental', ...change }, run).catch((error: unknown) => error);
}

/** Nothing of the failed run is there, and the parent is as it was. */
async function expectOnlyParent(): Promise<void> {
  expect(readdirSync(test.folder).length).toBe(3);
  expect(await listLeftovers(test.store)).toEqual([]);
  expect(await findDamage(test.repository)).toEqual([]);
  expect(await restoredBytes(test.repository, parent.backup_id, scratch('out'))).toEqual(first);
  const next = await backUp(test.repository, openRawReader(bytesSource(second)), { type: 'incremental' });
  expect(next.clustersWritten).toBe(2);
}

describe('a backup is not committed', () => {
  it('when its lease is lost while it runs', async () => {
    const guard: TestGuard = heldGuard();
    expect(
      await attempt(
        interrupted(second, () => guard.lose()),
        { guard },
      ),
    ).toMatchObject({ code: 'LEASE_LOST' });
    await expectOnlyParent();
  });

  it('when its lease is lost without anybody noticing before the commit', async () => {
    const guard: TestGuard = heldGuard({ silent: true });
    expect(
      await attempt(
        interrupted(second, () => guard.lose()),
        { guard },
      ),
    ).toMatchObject({ code: 'LEASE_LOST' });
    await expectOnlyParent();
  });

  it('when the marker of the repository vanished, or is that of another owner, of another repository, or damaged', async () => {
    const marker = join(test.root, MARKER_NAME);
    const good = readFileSync(marker);
    const gone = await attempt(interrupted(second, () => rmSync(marker)));
    expect(gone).toMatchObject({ code: 'REPOSITORY_OFFLINE', retryable: true });
    writeFileSync(marker, good);
    const takenOver = interrupted(second, async () => {
      await claimRepository({ store: test.store, clock: test.clock, installationId: 'another', takeOver: true });
    });
    expect(await attempt(takenOver)).toMatchObject({ code: 'REPOSITORY_FOREIGN', context: { owner: 'another' } });
    const flipped = Buffer.from(good);
    flipped.writeUInt8(flipped.readUInt8(40) ^ 1, 40);
    expect(await attempt(interrupted(second, () => writeFileSync(marker, flipped)))).toMatchObject({ code: 'REPOSITORY_INVALID' });
    const other = await makeRepository(scratch(`other-${made}`));
    expect(await attempt(interrupted(second, () => writeFileSync(marker, readFileSync(join(other.root, MARKER_NAME)))))).toMatchObject({
      code: 'REPOSITORY_INVALID',
    });
    writeFileSync(marker, good);
    await expectOnlyParent();
  });

  it('when it is cancelled in the middle, or between the last byte and the commit', async () => {
    const early = new AbortController();
    const reader = interrupted(second, () => early.abort());
    expect(await attempt(reader, { signal: early.signal })).toMatchObject({ code: 'CANCELLED' });
    const late = new AbortController();
    const request = { checkSource: async () => late.abort() };
    expect(await attempt(openRawReader(bytesSource(second)), { signal: late.signal }, request)).toMatchObject({ code: 'CANCELLED' });
    await expectOnlyParent();
  });

  it('when its source changed, ended too early or could not be read', async () => {
    const changed = new ChainkeepError('SOURCE_CHANGED', 'it grew');
    const request = {
      checkSource: async () => {
        throw changed;
      },
    };
    expect(await attempt(openRawReader(bytesSource(second)), {}, request)).toBe(changed);
    const path = scratch(`cut-${made}`);
    writeFileSync(path, second.subarray(0, 10 * CLUSTER + 1));
    const file = await openFileSource(path);
    const cut = openRawReader({
      name: path,
      size: second.length,
      ...(file.fd === undefined ? {} : { fd: file.fd }),
      read: (b, o) => file.read(b, o),
      close: () => file.close(),
    });
    expect(await attempt(cut)).toMatchObject({ code: 'SOURCE_CHANGED', context: { source: path } });
    await cut.close();
    const folder = openSync('/tmp', 'r');
    const unreadable = openRawReader({ ...bytesSource(second), fd: folder });
    expect(await attempt(unreadable)).toMatchObject({ code: 'SOURCE_UNREADABLE', context: { offset: 0, system_code: 'EISDIR' } });
    closeSync(folder);
    const served = new Error('the network is down');
    const remote = interrupted(second, () => {
      throw served;
    });
    expect(await attempt(remote)).toBe(served);
    await expectOnlyParent();
  });

  it('when its metadata would make a sidecar that nobody reads back', async () => {
    const metadata = { notes: 'x'.repeat(5 << 20) };
    expect(await attempt(openRawReader(bytesSource(second)), {}, { metadata })).toMatchObject({ code: 'CONFIG_INVALID' });
    await expectOnlyParent();
  });

  it('when its parent is gone before the digests could be opened', async () => {
    const request = requestFor(openRawReader(bytesSource(second)), { type: 'incremental' });
    const plan = await test.repository.planBackup(request);
    for (const name of readdirSync(test.folder)) rmSync(join(test.folder, name));
    await expect(test.repository.runBackup(request, plan, { guard: heldGuard() })).rejects.toMatchObject({ code: 'BLOB_NOT_FOUND' });
    expect(readdirSync(test.folder)).toEqual([]);
  });
});

describe('a backup is un-committed', () => {
  const removeParent = (): void => {
    for (const name of readdirSync(test.folder)) if (name.startsWith(parent.backup_id)) rmSync(join(test.folder, name));
  };

  it('when its parent was deleted while it ran', async () => {
    expect(await attempt(interrupted(second, removeParent))).toMatchObject({ code: 'BACKUP_NOT_FOUND' });
    expect(existsSync(test.folder) ? readdirSync(test.folder) : []).toEqual([]);
    expect(await listLeftovers(test.store)).toEqual([]);
  });

  it('when its parent was replaced by another backup of the same id', async () => {
    const other = await makeRepository(scratch(`other-${made}`));
    await backUp(other.repository, openRawReader(bytesSource(second)), { clusterSize: CLUSTER });
    const sidecar = JSON.parse(readFileSync(join(test.folder, `${parent.backup_id}.json`), 'utf8'));
    const { checksum: _checksum, ...fields } = sidecar;
    const replaced = encodeSidecar(await loadBlake3(), { ...fields, content_root: 'a'.repeat(64) });
    const reader = interrupted(second, () => writeFileSync(join(test.folder, `${parent.backup_id}.json`), replaced));
    expect(await attempt(reader)).toMatchObject({ code: 'CHAIN_CORRUPT' });
    expect(readdirSync(test.folder).length).toBe(3);
  });

  it('but stays whole when it cannot be removed, or the lease is lost by then', async () => {
    const guard = heldGuard({ silent: true });
    const losing = afterCommit(test.store, () => {
      removeParent();
      guard.lose();
    });
    const lost = await attempt(openRawReader(bytesSource(second)), { guard }, {}, await test.through(losing));
    expect(lost).toMatchObject({ code: 'LEASE_LOST' });
    expect(readdirSync(test.folder).length).toBe(3);
    expect((await findDamage(test.repository)).map(({ code }) => code)).toEqual(['PARENT_NOT_FOUND']);

    rmSync(test.folder, { recursive: true });
    const full = await backUp(test.repository, openRawReader(bytesSource(first)), { clusterSize: CLUSTER });
    const broken = faultyStore(test.store, { failAt: 1, operations: ['delete'], sticky: true });
    const removing = afterCommit(broken.store, () => {
      for (const name of readdirSync(test.folder)) if (name.startsWith(full.sidecar.backup_id)) rmSync(join(test.folder, name));
    });
    const stuck = await attempt(openRawReader(bytesSource(second)), {}, {}, await test.through(removing));
    expect(stuck).toMatchObject({ code: 'BACKUP_NOT_FOUND' });
    expect(readdirSync(test.folder).length).toBe(3);
    expect(test.logged.map(({ level, message }) => [level, message.split(':')[0]])).toEqual([
      ['warn', 'whether the failed backup counts is not known, its files stay'],
    ]);
  });
});

describe('what a failed run leaves', () => {
  it('is said, and removed by the next run', async () => {
    const broken = faultyStore(test.store, { failAt: 1, operations: ['abort', 'delete'], sticky: true });
    const guard = heldGuard({ silent: true });
    const repository = await test.through(broken.store);
    expect(
      await attempt(
        interrupted(second, () => guard.lose()),
        { guard },
        {},
        repository,
      ),
    ).toMatchObject({ code: 'LEASE_LOST' });
    expect(
      test.logged.every(({ level, message }) => level === 'warn' && message.startsWith('a part of the failed backup could not be removed')),
    ).toBe(true);
    expect(test.logged.length).toBe(4);
    const { rubbish } = await test.repository.readDisk(PLACE);
    expect(rubbish.length).toBe(2);
    const left = await test.repository.removeRubbish(PLACE, heldGuard(), async () => 'completed');
    expect(left).toEqual([]);
    expect(await test.repository.removeRubbish(PLACE, heldGuard(), async () => 'unknown')).toEqual([]);
    const lost = heldGuard({ silent: true });
    lost.lose();
    await expect(test.repository.removeRubbish(PLACE, lost, async () => 'dead')).rejects.toMatchObject({ code: 'LEASE_LOST' });
    const removed = await test.repository.removeRubbish(PLACE, heldGuard(), async () => 'dead');
    expect([...removed].sort()).toEqual(rubbish.map(({ name }) => name).sort());
    await expectOnlyParent();
  });

  it('is old enough after a day, whoever made it', async () => {
    const name = `vms/vm-a/disk-0/20200101t000000000-aaaaaaaa.qcow2`;
    writeFileSync(join(test.root, name), 'x');
    const now = test.clock.now() / 1000;
    utimesSync(join(test.root, name), now, now - 23 * 3600);
    expect(await test.repository.removeRubbish(PLACE, heldGuard(), async () => 'unknown')).toEqual([]);
    utimesSync(join(test.root, name), now, now - 25 * 3600);
    expect(await test.repository.removeRubbish(PLACE, heldGuard(), async () => 'unknown')).toEqual([name]);
  });
});
