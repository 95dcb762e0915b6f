// Conformance of stores: what was opened is what is read, whole or not at all.

import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { isChainkeepError } from '../../plumbing/errors.ts';
import { writeBlob } from '../trial.ts';
import type { Subject } from './conformance.ts';
import { codeOf, listLeftovers, patternBytes, readBlob } from './store-probe.ts';

export function readingBehaviours(subject: Subject): void {
  it('any range reads as written, also many at once', async () => {
    const { store } = subject();
    const bytes = patternBytes(200_000);
    await writeBlob(store, 'a', bytes);
    const source = await store.open('a');
    expect(source.size).toBe(bytes.length);
    const ranges = [
      [0, 1],
      [0, 200_000],
      [199_999, 1],
      [4095, 2],
      [65_536, 65_536],
      [123_457, 7],
      [200_000, 0],
    ] as const;
    await Promise.all(
      ranges.map(async ([offset, length]) => {
        const part = Buffer.alloc(length);
        await source.read(part, offset);
        expect(Buffer.compare(part, bytes.subarray(offset, offset + length)), `${length} at ${offset}`).toBe(0);
      }),
    );
    await source.close();
  });

  it('a read outside of the blob throws', async () => {
    const { store } = subject();
    await writeBlob(store, 'a', 'ten bytes!');
    const source = await store.open('a');
    for (const [offset, length] of [
      [0, 11],
      [10, 1],
      [9, 2],
      [1e12, 1],
      [-1, 1],
      [0.5, 1],
      [Number.NaN, 1],
    ] as const) {
      expect(await codeOf(source.read(new Uint8Array(length), offset)), `${length} at ${offset}`).toBe('STORE_FAILED');
    }
    await source.close();
  });

  it('what is not there is BLOB_NOT_FOUND', async () => {
    const { store } = subject();
    await writeBlob(store, 'a/b', 'x');
    for (const name of ['b', 'a', 'a/c', 'a/b/c', 'x/y/z']) {
      expect(await codeOf(store.open(name)), name).toBe('BLOB_NOT_FOUND');
      expect(await store.stat(name), name).toBeUndefined();
    }
  });

  it('an open blob keeps its bytes while it is replaced and deleted, or says BLOB_CHANGED; or both are refused as long as it is open', async () => {
    const { store, refusesOpen } = subject();
    const old = patternBytes(100_000, 1);
    const fresh = patternBytes(100_000, 2);
    await writeBlob(store, 'a', old);
    const source = await store.open('a');
    if (refusesOpen) {
      try {
        expect(await codeOf(writeBlob(store, 'a', fresh))).toBe('BLOB_IN_USE');
        if (refusesOpen === 'replace and delete') expect(await codeOf(store.delete('a'))).toBe('BLOB_IN_USE');
        expect(Buffer.compare(await readBlob(store, 'a'), old)).toBe(0);
      } catch (error) {
        await source.close(); // it would be in the way of all that follows
        throw error;
      }
    } else {
      await writeBlob(store, 'a', fresh);
      await expectOldOrChanged(source, old);
      await store.delete('a');
    }
    await expectOldOrChanged(source, old);
    await source.close();
    if (refusesOpen) {
      await writeBlob(store, 'a', fresh);
      expect(Buffer.compare(await readBlob(store, 'a'), fresh)).toBe(0);
      await store.delete('a');
    }
    expect(await codeOf(readBlob(store, 'a'))).toBe('BLOB_NOT_FOUND');
    expect(await listLeftovers(store)).toEqual([]);
  });

  it('a replacement waits for a reader that is about to end', async () => {
    const { store } = subject();
    await writeBlob(store, 'a', 'old');
    const source = await store.open('a');
    const closed = sleep(300).then(() => source.close());
    await writeBlob(store, 'a', 'new');
    await closed;
    expect((await readBlob(store, 'a')).toString()).toBe('new');
    const again = await store.open('a');
    const closedAgain = sleep(300).then(() => again.close());
    await store.delete('a');
    await closedAgain;
    expect(await store.stat('a')).toBeUndefined();
  });

  it('stat tells size and time', async () => {
    const { store } = subject();
    const before = Date.now();
    await writeBlob(store, 'a', 'abc');
    const info = await store.stat('a');
    expect(info).toMatchObject({ name: 'a', size: 3 });
    // The store's clock may differ from ours, but not by an hour.
    expect(Math.abs((info?.modifiedAt ?? 0) - before)).toBeLessThan(3_600_000);
    expect(Number.isInteger(info?.modifiedAt)).toBe(true);
  });

  it('capacity is what the capabilities promise', async () => {
    const { store } = subject();
    const room = await store.capacity();
    expect(room !== undefined).toBe(store.capabilities.capacity);
    if (!room) return;
    expect(room.totalBytes).toBeGreaterThan(0);
    expect(room.usedBytes + room.availableBytes).toBeLessThanOrEqual(room.totalBytes);
  });
}

async function expectOldOrChanged(source: { read(buffer: Uint8Array, offset: number): Promise<void> }, old: Uint8Array): Promise<void> {
  const bytes = Buffer.alloc(old.length);
  try {
    await source.read(bytes, 0);
  } catch (error) {
    expect(isChainkeepError(error, 'BLOB_CHANGED')).toBe(true);
    return;
  }
  expect(Buffer.compare(bytes, old)).toBe(0);
}
