// How much room is reserved for a backup: never less than its kind has shown, and no nightly one is taken for a full.

import { describe, expect, it } from 'vitest';
import { estimateBackup } from '../../src/control/estimate-backup.ts';
import { fillLevel, usedPercentage } from '../../src/control/fill-level.ts';

const MIB = 2 ** 20;
const FULL = { type: 'full', mostBytes: 1000 * MIB, history: [], fullBytes: 0 } as const;
const NIGHTLY = { type: 'incremental', mostBytes: 1000 * MIB, history: [], fullBytes: 600 * MIB } as const;

describe('the estimate', () => {
  it('of a full is all that its source holds, whatever fulls took before', () => {
    expect(estimateBackup(FULL).bytes).toBe(1000 * MIB);
    expect(estimateBackup({ ...FULL, history: [MIB] }).bytes).toBe(1000 * MIB);
  });

  it('of an incremental is twice the largest of the last five', () => {
    expect(estimateBackup({ ...NIGHTLY, history: [20, 30, 10, 25, 15, 400].map((size) => size * MIB) })).toMatchObject({ bytes: 60 * MIB });
    expect(estimateBackup({ ...NIGHTLY, type: 'differential', history: [200 * MIB] }).bytes).toBe(400 * MIB);
  });

  it('of the first one is a tenth of its full: it must be possible to begin', () => {
    expect(estimateBackup(NIGHTLY).bytes).toBe(60 * MIB);
  });

  it('is never more than the source holds, and never nothing', () => {
    expect(estimateBackup({ ...NIGHTLY, history: [900 * MIB] }).bytes).toBe(1000 * MIB);
    expect(estimateBackup({ ...NIGHTLY, history: [100] }).bytes).toBe(4 * MIB);
    expect(estimateBackup({ ...NIGHTLY, mostBytes: MIB, history: [100] }).bytes).toBe(MIB);
  });
});

describe('the fill level', () => {
  const at = (used: number, available: number, total = used + available) => ({
    totalBytes: total,
    usedBytes: used,
    availableBytes: available,
  });

  it('warns from 90 % and is full from 95 %, of what can be used', () => {
    expect([899, 900, 949, 950, 999].map((used) => fillLevel(at(used, 1000 - used)))).toEqual(['ok', 'warning', 'warning', 'full', 'full']);
    // What a file system keeps for root is neither used nor free for us.
    expect([usedPercentage(at(80, 15, 100)), fillLevel(at(90, 5, 100)), fillLevel(at(91, 4, 100))]).toEqual([84.2, 'warning', 'full']);
  });

  it('is full where nothing is free, and not known where the store does not tell', () => {
    expect([
      fillLevel(at(1000, 0)),
      fillLevel(at(0, 0, 1000)),
      fillLevel(undefined),
      fillLevel({ totalBytes: 0, usedBytes: 9, availableBytes: 0 }),
    ]).toEqual(['full', 'full', 'unknown', 'unknown']);
  });
});
