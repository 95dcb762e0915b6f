// Which clusters are looked at: never fewer than what was listed, whatever the list looks like.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ByteRange } from '../../src/disk/extent.ts';
import { type ChangedClusters, readChangedClusters } from '../../src/transfer/changed-clusters.ts';
import { RANGE_CLUSTERS } from '../../src/transfer/expected-view.ts';

async function* listOf(stretches: readonly ByteRange[]): AsyncGenerator<ByteRange> {
  yield* stretches;
}

function clustersOf(changed: ChangedClusters, count: number): number[] {
  const found: number[] = [];
  for (let range = 0; range * RANGE_CLUSTERS < count; range += 1) {
    changed.range(range)?.forEach((value, at) => {
      if (value === 1) found.push(range * RANGE_CLUSTERS + at);
    });
  }
  return found;
}

const stretch = fc.record({ offset: fc.nat(2_000_000), length: fc.nat(100_000) });

describe('changed clusters', () => {
  it('are those that a listed byte lies in, and everything behind the end of the parent', async () => {
    const lists = fc.array(stretch, { maxLength: 30 });
    await fc.assert(
      fc.asyncProperty(lists, fc.nat(2_100_000), async (list, parentBytes) => {
        const totalBytes = 2_100_077;
        const sorted = list.toSorted((a, b) => a.offset - b.offset);
        const changed = await readChangedClusters(listOf(sorted), { clusterSize: 100, totalBytes, parentBytes });
        const count = Math.ceil(totalBytes / 100);
        const expected = new Uint8Array(count);
        for (const { offset, length } of list)
          if (length > 0) expected.fill(1, Math.floor(offset / 100), Math.ceil((offset + length) / 100));
        if (totalBytes > parentBytes) expected.fill(1, Math.floor(parentBytes / 100));
        const clusters = [...expected.keys()].filter((cluster) => expected[cluster] === 1);
        expect(clustersOf(changed, count)).toEqual(clusters);
        expect(changed.count).toBe(clusters.length);
      }),
      { numRuns: 50 },
    );
  });

  it('are more where the list is too long to be kept, and the largest gaps stay', async () => {
    const list = Array.from({ length: 1000 }, (_, index) => ({ offset: index * 200 + (index >= 500 ? 1_000_000 : 0), length: 1 }));
    const size = { clusterSize: 100, totalBytes: 1_300_000, parentBytes: 1_300_000, mostStretches: 10 };
    const found = new Set(clustersOf(await readChangedClusters(listOf(list), size), 13_000));
    expect(list.every(({ offset }) => found.has(Math.floor(offset / 100)))).toBe(true);
    expect(found.has(5000)).toBe(false);
    expect(found.size).toBeLessThan(2100);
  });

  it('are none where nothing changed and nothing grew', async () => {
    const changed = await readChangedClusters(listOf([]), { clusterSize: 512, totalBytes: 2 ** 40, parentBytes: 2 ** 40 });
    expect([changed.count, changed.range(0), changed.range(5)]).toEqual([0, undefined, undefined]);
  });
});
