// Conformance of stores: of several writers of one name exactly one wins, and a replaced blob is whole at every moment.

import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { systemClock } from '../../plumbing/clock.ts';
import { isChainkeepError } from '../../plumbing/errors.ts';
import { listNames, writeBlob } from '../trial.ts';
import type { Subject } from './conformance.ts';
import { codeOf, listLeftovers, patternBytes, readBlob } from './store-probe.ts';

const EMPTY = new Uint8Array(0);

export function createOnlyBehaviours(subject: Subject): void {
  it('a taken name is refused and keeps its content', async () => {
    const { store } = subject();
    await writeBlob(store, 'a', 'old', { ifAbsent: true });
    expect(await codeOf(writeBlob(store, 'a', 'new', { ifAbsent: true }))).toBe('BLOB_EXISTS');
    expect((await readBlob(store, 'a')).toString()).toBe('old');
    expect(await listLeftovers(store)).toEqual([]);
  });

  it('it counts what is there at finish, not at put', async () => {
    const { store } = subject();
    const late = await store.put('a', { ifAbsent: true });
    await late.append([Buffer.from('late')]);
    await writeBlob(store, 'a', 'early', { ifAbsent: true });
    expect(await codeOf(late.finish(EMPTY))).toBe('BLOB_EXISTS');
    expect(await codeOf(late.finish(EMPTY))).toBe('BLOB_EXISTS');
    await late.abort();
    expect((await readBlob(store, 'a')).toString()).toBe('early');
  });

  it('a deleted name can be created again', async () => {
    const { store } = subject();
    await writeBlob(store, 'a', 'one', { ifAbsent: true });
    await store.delete('a');
    await writeBlob(store, 'a', 'two', { ifAbsent: true });
    expect((await readBlob(store, 'a')).toString()).toBe('two');
  });

  it('of 8 writers that finish at once one wins, 10 times', async () => {
    const { store } = subject();
    for (let round = 0; round < 10; round += 1) {
      const name = `race/${round}`;
      const results = await Promise.allSettled(
        Array.from({ length: 8 }, (_, writer) => writeBlob(store, name, `${writer}`, { ifAbsent: true })),
      );
      const winners = results.flatMap((result, writer) => (result.status === 'fulfilled' ? [`${writer}`] : []));
      expect(winners).toEqual([(await readBlob(store, name)).toString()]);
    }
    expect(await listLeftovers(store)).toEqual([]);
  });

  it('of two processes that create the same 40 names each name has one winner', async ({ skip }) => {
    const { store, elsewhere } = subject();
    if (!elsewhere) return skip('this store lives in one process');
    const script = fileURLToPath(new URL('./racing-writer.ts', import.meta.url));
    const start = systemClock.now() + 800;
    const race = async (mark: string): Promise<readonly string[]> => {
      const args = [script, elsewhere.type, JSON.stringify(elsewhere.config), mark, '40', String(start)];
      const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 100_000 });
      return JSON.parse(stdout);
    };
    const [left, right] = await Promise.all([race('left'), race('right')]);
    expect([...left, ...right].sort()).toEqual(await listNames(store, 'race/'));
    expect(left.length + right.length).toBe(40);
    for (const name of left) expect((await readBlob(store, name)).toString()).toBe('left');
    for (const name of right) expect((await readBlob(store, name)).toString()).toBe('right');
    expect(await listLeftovers(store)).toEqual([]);
  });

  it('a put without a condition replaces in one step: a reader sees the old or the new, whole', async ({ skip }) => {
    const { store } = subject();
    if (!store.capabilities.atomicReplace) return skip('this store cannot replace in one step');
    await writeBlob(store, 'a', patternBytes(300_000, 1));
    let writing = true;
    const writer = (async () => {
      for (let seed = 2; seed <= 12; seed += 1) await writeBlob(store, 'a', patternBytes(300_000 + seed, seed));
      writing = false;
    })();
    let reads = 0;
    for (; writing || reads === 0; reads += 1) {
      const bytes = await readBlob(store, 'a').catch((error: unknown) => {
        // A blob of more than one request may be replaced between two: that is said, and never mixed.
        if (isChainkeepError(error, 'BLOB_CHANGED')) return undefined;
        throw error;
      });
      if (!bytes) continue;
      const seed = bytes.length === 300_000 ? 1 : bytes.length - 300_000;
      expect(Buffer.compare(bytes, patternBytes(bytes.length, seed)), `seed ${seed}`).toBe(0);
    }
    await writer;
    expect((await readBlob(store, 'a')).length).toBe(300_012);
    expect(await listLeftovers(store)).toEqual([]);
  });
}
