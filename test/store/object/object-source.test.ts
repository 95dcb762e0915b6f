// The source of object stores over a reader in memory: every range right, few requests, bounded memory.

import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { ChainkeepError } from '../../../src/plumbing/errors.ts';
import { BlockCache } from '../../../src/store/object/block-cache.ts';
import { BLOCK_BYTES, openObjectSource, type RangeReader } from '../../../src/store/object/object-source.ts';
import { codeOf, patternBytes } from '../../../src/store/testing/store-probe.ts';

const MIB = 2 ** 20;

interface Counted {
  readonly reader: RangeReader;
  readonly requests: { readonly offset: number; readonly length: number }[];
  most: number;
}

function reader(content: Buffer, fail?: (count: number) => boolean): Counted {
  let running = 0;
  const counted: Counted = {
    requests: [],
    most: 0,
    reader: {
      name: 'a',
      size: content.length,
      readRange: async (offset, length) => {
        counted.requests.push({ offset, length });
        running += 1;
        counted.most = Math.max(counted.most, running);
        await sleep(1);
        running -= 1;
        if (fail?.(counted.requests.length)) throw new ChainkeepError('STORE_FAILED', 'injected');
        // As a network brings them: in pieces of any size.
        const cuts = [0, 1, 70_000, 70_000, 300_001].filter((cut) => cut <= length);
        return cuts.map((cut, index) => Buffer.from(content.subarray(offset + cut, offset + (cuts[index + 1] ?? length))));
      },
    },
  };
  return counted;
}

describe('the source', () => {
  it('any range reads as written, in any order and many at once', async () => {
    const content = patternBytes(7 * MIB + 1234);
    const { reader: ranges } = reader(content);
    const cache = new BlockCache(2 * MIB);
    const source = openObjectSource(ranges, cache, content.subarray(0, BLOCK_BYTES));
    let state = 1;
    const next = (limit: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state % limit;
    };
    await Promise.all(
      Array.from({ length: 200 }, async () => {
        const offset = next(content.length);
        const length = next(Math.min(3 * MIB, content.length - offset));
        const part = Buffer.alloc(length);
        await source.read(part, offset);
        expect(part.equals(content.subarray(offset, offset + length))).toBe(true);
      }),
    );
    await source.close();
    expect(cache.bytes).toBe(0);
  });

  it('a small object costs no request after its opening', async () => {
    const content = patternBytes(1500);
    const { reader: ranges, requests } = reader(content);
    const source = openObjectSource(ranges, new BlockCache(MIB), content);
    const all = Buffer.alloc(1500);
    await source.read(all, 0);
    expect(all.equals(content)).toBe(true);
    expect(requests).toEqual([]);
  });

  it('in sequence, two workers in turn: no byte twice, few requests, several at the same time', async () => {
    const content = patternBytes(40 * MIB);
    const counted = reader(content);
    const cache = new BlockCache(64 * MIB);
    const source = openObjectSource(counted.reader, cache, content.subarray(0, BLOCK_BYTES));
    let at = 0;
    const worker = async (): Promise<void> => {
      const part = Buffer.alloc(MIB);
      while (at < content.length) {
        const offset = at;
        at += MIB;
        await source.read(part, offset);
        expect(part.equals(content.subarray(offset, offset + MIB))).toBe(true);
      }
    };
    await Promise.all([worker(), worker()]);
    expect(counted.requests.reduce((sum, { length }) => sum + length, 0)).toBe(content.length - BLOCK_BYTES);
    expect(counted.requests.length).toBeLessThan(25);
    expect(counted.most).toBeGreaterThan(2);
  });

  it('at random nothing is read ahead, and a block is read once', async () => {
    const content = patternBytes(20 * MIB);
    const counted = reader(content);
    const source = openObjectSource(counted.reader, new BlockCache(64 * MIB), content.subarray(0, BLOCK_BYTES));
    for (const mib of [7, 2, 15, 11, 4, 18, 7, 15, 2]) await source.read(Buffer.alloc(1000), mib * MIB);
    expect(counted.requests.map(({ length }) => length)).toEqual(Array.from({ length: 6 }, () => BLOCK_BYTES));
  });

  it('the memory of all sources is that of the cache', async () => {
    const content = patternBytes(16 * MIB);
    const cache = new BlockCache(4 * MIB);
    const sources = [1, 2, 3].map(() => openObjectSource(reader(content).reader, cache, content.subarray(0, BLOCK_BYTES)));
    let most = 0;
    for (let at = 0; at < content.length; at += MIB / 2) {
      for (const source of sources) await source.read(Buffer.alloc(MIB / 2), at);
      most = Math.max(most, cache.bytes);
    }
    expect(most).toBeLessThanOrEqual(4 * MIB);
  });

  it('a failed request fails the reads that need it, and the next read asks again', async () => {
    const content = patternBytes(2 * MIB);
    const source = openObjectSource(reader(content, (count) => count === 1).reader, new BlockCache(MIB), content.subarray(0, BLOCK_BYTES));
    const part = Buffer.alloc(10);
    expect(await codeOf(source.read(part, MIB))).toBe('STORE_FAILED');
    await source.read(part, MIB);
    expect(part.equals(content.subarray(MIB, MIB + 10))).toBe(true);
  });
});
