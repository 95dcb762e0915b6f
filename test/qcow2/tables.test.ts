import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fromHalves, highHalf, lowHalf, readU64, writeU64 } from '../../src/plumbing/big-endian.ts';
import { readBitmapTableEntry, writeBitmapTableEntry } from '../../src/qcow2/bitmaps.ts';
import { readL1Entry, writeL1Entry } from '../../src/qcow2/l1-entry.ts';
import {
  type L2Shape,
  maxCompressedOffset,
  readEntry,
  writeCompressedEntry,
  writeStandardEntry,
  writeZeroEntry,
} from '../../src/qcow2/l2-entry.ts';
import { readRun } from '../../src/qcow2/l2-run.ts';
import {
  maxRefcount,
  readRefcount,
  readRefcountTableEntry,
  refcountsPerBlock,
  writeRefcount,
  writeRefcountTableEntry,
} from '../../src/qcow2/refcounts.ts';

const clusterBitsArbitrary = fc.integer({ min: 9, max: 21 });
const EDGES = [2 ** 31, 2 ** 32, 2 ** 40, 2 ** 52];

function table(entries = 4): DataView {
  return new DataView(new ArrayBuffer(entries * 16));
}

function plain(clusterBits: number, version: 2 | 3 = 3): L2Shape {
  return { clusterBits, extended: false, version };
}

/** A cluster-aligned offset of any size up to 2^53. */
const placeArbitrary = clusterBitsArbitrary.chain((clusterBits) =>
  fc
    .oneof(
      fc.constantFrom(...EDGES),
      fc.integer({ min: 1, max: 2 ** 32 - 1 }).map((cluster) => cluster * 2 ** clusterBits),
    )
    .filter((hostOffset) => Number.isSafeInteger(hostOffset))
    .map((hostOffset) => ({ clusterBits, hostOffset })),
);

describe('64-bit fields', () => {
  it('survive two halves', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (value) => {
        const view = table();
        writeU64(view, 8, value);
        expect(readU64(view, 8)).toBe(value);
        expect(view.getBigUint64(8)).toBe(BigInt(value));
        expect(fromHalves(highHalf(value), lowHalf(value))).toBe(value);
      }),
    );
  });

  it('are Infinity from 2^53 on, so that no bounds check lets them through', () => {
    const view = table();
    for (const value of [2n ** 53n, 2n ** 56n - 65_536n, 2n ** 63n, 2n ** 64n - 1n]) {
      view.setBigUint64(0, value);
      expect(readU64(view, 0)).toBe(Number.POSITIVE_INFINITY);
    }
    view.setBigUint64(0, 2n ** 53n - 1n);
    expect(readU64(view, 0)).toBe(Number.MAX_SAFE_INTEGER);
  });
});

describe('L1 entries', () => {
  it('are read as they were written', () => {
    fc.assert(
      fc.property(placeArbitrary, fc.integer({ min: 0, max: 3 }), ({ clusterBits, hostOffset }, index) => {
        const view = table();
        writeL1Entry(view, index, hostOffset);
        expect(view.getBigUint64(index * 8)).toBe((1n << 63n) | BigInt(hostOffset));
        expect(readL1Entry(view, index, clusterBits)).toEqual({ l2Offset: hostOffset, copied: true });
      }),
    );
  });

  it.each([
    ['reserved bit 0', 0x1_0001n, { oddity: 'reserved bits are set' }],
    ['reserved bit 56', (1n << 56n) | 0x1_0000n, { oddity: 'reserved bits are set' }],
    ['an unaligned offset', 0x1_0200n, { fault: 'the offset 66048 is not a multiple of 65536' }],
    ['COPIED without an offset', 1n << 63n, { fault: 'COPIED is set without an offset' }],
    ['an offset of 2^53', 1n << 53n, { fault: 'the offset is 2^53 or more' }],
  ])('say what is wrong with %s', (_what, bits, problem) => {
    const view = table();
    view.setBigUint64(0, bits);
    expect(readL1Entry(view, 0, 16)).toMatchObject(problem);
  });

  it('without an offset have no table', () => {
    expect(readL1Entry(table(), 0, 16)).toEqual({ l2Offset: 0, copied: false });
  });
});

describe('L2 entries', () => {
  it('of standard clusters are read as they were written', () => {
    fc.assert(
      fc.property(placeArbitrary, fc.integer({ min: 0, max: 3 }), ({ clusterBits, hostOffset }, index) => {
        const view = table();
        writeStandardEntry(view, index, hostOffset);
        expect(view.getBigUint64(index * 8)).toBe((1n << 63n) | BigInt(hostOffset));
        expect(readEntry(view, index, plain(clusterBits))).toEqual({
          kind: 'standard',
          hostOffset,
          storedLength: 2 ** clusterBits,
          copied: true,
        });
      }),
    );
  });

  it('of compressed clusters name at least the bytes that were written, and less than a sector more on each side', () => {
    const arbitrary = clusterBitsArbitrary.chain((clusterBits) =>
      fc.record({
        clusterBits: fc.constant(clusterBits),
        hostOffset: fc.oneof(
          fc.maxSafeNat().map((value) => value % (maxCompressedOffset(clusterBits) - 2 ** clusterBits - 512)),
          fc.constantFrom(2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 48 + 1),
        ),
        storedLength: fc.integer({ min: 1, max: 2 ** clusterBits }),
      }),
    );
    fc.assert(
      fc.property(arbitrary, ({ clusterBits, hostOffset, storedLength }) => {
        const view = table();
        writeCompressedEntry(view, 1, clusterBits, hostOffset, storedLength);
        const entry = readEntry(view, 1, plain(clusterBits));
        expect(entry).toMatchObject({ kind: 'compressed', hostOffset, copied: false });
        expect(entry.fault ?? entry.oddity).toBeUndefined();
        expect(entry.storedLength).toBeGreaterThanOrEqual(storedLength);
        expect(entry.storedLength).toBeLessThan(storedLength + 512);
        expect((hostOffset + entry.storedLength) % 512).toBe(0);
        // The same by the words of the specification.
        const x = BigInt(62 - (clusterBits - 8));
        const bits = view.getBigUint64(8);
        expect(bits & ((1n << x) - 1n)).toBe(BigInt(hostOffset));
        expect(bits >> 62n).toBe(1n);
        const sectors = (bits >> x) & ((1n << (62n - x)) - 1n);
        expect((sectors + 1n) * 512n - (BigInt(hostOffset) & 511n)).toBe(BigInt(entry.storedLength));
      }),
      { numRuns: 500 },
    );
  });

  it.each([
    [16, 0, 0],
    [16, 0, 65_537],
    [21, 2 ** 49, 1],
    [9, Number.MAX_SAFE_INTEGER, 1],
  ])('refuse a compressed cluster that cannot be named (%i, %i, %i)', (clusterBits, hostOffset, storedLength) => {
    expect(() => writeCompressedEntry(table(), 0, clusterBits, hostOffset, storedLength)).toThrow(RangeError);
  });

  it('tell zero from unallocated', () => {
    const view = table();
    writeZeroEntry(view, 1);
    expect(readEntry(view, 0, plain(16))).toEqual({ kind: 'unallocated', hostOffset: 0, storedLength: 0, copied: false });
    expect(readEntry(view, 1, plain(16))).toEqual({ kind: 'zero', hostOffset: 0, storedLength: 0, copied: false });
    view.setBigUint64(0, (1n << 63n) | 0x5_0001n);
    expect(readEntry(view, 0, plain(16))).toEqual({ kind: 'zero', hostOffset: 0x5_0000, storedLength: 65_536, copied: true });
  });

  it.each([
    ['a zero flag in version 2', 1n, 2 as const, { fault: 'the zero flag is set in an image of version 2' }],
    ['an unaligned offset', 0x5_0200n, 3 as const, { fault: 'the offset 328192 is not a multiple of 65536' }],
    ['COPIED without an offset', 1n << 63n, 3 as const, { fault: 'COPIED is set without an offset' }],
    ['an offset of 2^56 less a cluster', 2n ** 56n - 65_536n, 3 as const, { fault: 'the offset is 2^53 or more' }],
    ['reserved bits 1 to 8', 0x5_0100n, 3 as const, { oddity: 'reserved bits are set' }],
    ['reserved bit 61', (1n << 61n) | 0x5_0000n, 3 as const, { oddity: 'reserved bits are set' }],
    ['COPIED on a compressed cluster', (3n << 62n) | 0x5_0000n, 3 as const, { oddity: 'COPIED is set on a compressed cluster' }],
    ['a compressed offset of 2^53', (1n << 62n) | (1n << 53n), 3 as const, { fault: 'the offset is 2^53 or more' }],
  ])('say what is wrong with %s', (_what, bits, version, problem) => {
    const view = table();
    view.setBigUint64(0, bits);
    const clusterBits = (bits & (1n << 53n)) !== 0n && bits < 1n << 63n && bits >= 1n << 62n ? 9 : 16;
    expect(readEntry(view, 0, plain(clusterBits, version))).toMatchObject(problem);
  });
});

describe('extended L2 entries', () => {
  const shape: L2Shape = { clusterBits: 16, extended: true, version: 3 };
  const entry = (bits: bigint, zero: number, allocated: number) => {
    const view = table();
    view.setBigUint64(16, bits);
    view.setUint32(24, zero >>> 0);
    view.setUint32(28, allocated >>> 0);
    return readEntry(view, 1, shape);
  };

  it.each([
    ['unallocated', 0n, 0, 0],
    ['unallocated', 0x5_0000n, 0, 0],
    ['zero', 0n, -1, 0],
    ['zero', 0x5_0000n, -1, 0],
    ['standard', 0x5_0000n, 0, -1],
    ['mixed', 0x5_0000n, 0, 1],
    ['mixed', 0x5_0000n, 2, 1],
    ['mixed', 0n, 2, 0],
  ] as const)('are %s (%i, zero %i, allocated %i)', (kind, bits, zero, allocated) => {
    expect(entry(bits, zero, allocated)).toEqual({
      kind,
      hostOffset: Number(bits),
      storedLength: bits === 0n ? 0 : 65_536,
      copied: false,
      subclusters: { zero: zero >>> 0, allocated: allocated >>> 0 },
    });
  });

  it.each([
    ['a subcluster in both halves', 0x5_0000n, 4, 4, { fault: 'a subcluster is both allocated and zero' }],
    ['allocation without an offset', 0n, 0, 1, { fault: 'a subcluster is allocated, but the cluster has no offset' }],
    ['the zero flag', 0x5_0001n, 0, 1, { oddity: 'the zero flag is set on an extended entry' }],
    ['subclusters of a compressed cluster', (1n << 62n) | 0x5_0000n, 0, 1, { oddity: 'a compressed cluster has subclusters' }],
  ])('say what is wrong with %s', (_what, bits, zero, allocated, problem) => {
    expect(entry(bits, zero, allocated)).toMatchObject(problem);
  });
});

describe('runs of L2 entries', () => {
  it('say the same as the entries one by one', () => {
    const COUNT = 64;
    const word = fc.oneof(
      fc.constantFrom(0n, 1n, 1n << 62n, 0x5_0000n, 0x5_0001n),
      fc.constantFrom(0x5_0000n, 0xffff_0000n, 0x1_ffff_0000n),
    );
    const piece = fc.record({
      word,
      length: fc.integer({ min: 1, max: 20 }),
      consecutive: fc.boolean(),
      low: fc.constantFrom(0n, 1n, 0xffff_ffffn),
    });
    fc.assert(
      fc.property(fc.array(piece, { minLength: 1, maxLength: 10 }), fc.boolean(), (pieces, extended) => {
        const width = extended ? 16 : 8;
        const view = new DataView(new ArrayBuffer(COUNT * width));
        let index = 0;
        for (const { word: first, length, consecutive, low } of pieces) {
          for (let number = 0; number < length && index < COUNT; number += 1, index += 1) {
            view.setBigUint64(index * width, first + (consecutive ? BigInt(number) * 65_536n : 0n));
            if (extended) view.setBigUint64(index * width + 8, low);
          }
        }
        const shape: L2Shape = { clusterBits: 16, extended, version: 3 };
        for (let at = 0; at < COUNT; ) {
          const { entry, count } = readRun(view, at, COUNT, shape);
          expect(count).toBeGreaterThan(0);
          for (let number = 0; number < count; number += 1) {
            const hostOffset = entry.hostOffset === 0 ? 0 : entry.hostOffset + number * 65_536;
            expect(readEntry(view, at + number, shape)).toEqual({ ...entry, hostOffset });
          }
          at += count;
        }
      }),
    );
  });

  it('take a whole table of one kind at once', () => {
    const view = new DataView(new ArrayBuffer(65_536));
    expect(readRun(view, 0, 8192, plain(16)).count).toBe(8192);
    for (let index = 0; index < 8192; index += 1) writeStandardEntry(view, index, 2 ** 32 - 65_536 + index * 65_536);
    expect(readRun(view, 0, 8192, plain(16)).count).toBe(8192);
    expect(readRun(view, 5, 10, plain(16)).count).toBe(5);
  });
});

describe('refcounts', () => {
  it.each([0, 1, 2, 3, 4, 5, 6])('of order %i do not disturb their neighbours', (order) => {
    const perBlock = refcountsPerBlock(9, order);
    expect(perBlock).toBe((512 * 8) / 2 ** order);
    const write = fc.tuple(fc.integer({ min: 0, max: perBlock - 1 }), fc.integer({ min: 0, max: maxRefcount(order) }));
    fc.assert(
      fc.property(fc.array(write, { maxLength: 40 }), (writes) => {
        const block = new DataView(new ArrayBuffer(512));
        const expected = new Map<number, number>();
        for (const [index, count] of writes) {
          writeRefcount(block, index, order, count);
          expected.set(index, count);
        }
        for (let index = 0; index < perBlock; index += 1) expect(readRefcount(block, index, order)).toBe(expected.get(index) ?? 0);
      }),
      { numRuns: 30 },
    );
  });

  it('below a byte start at its lowest bit', () => {
    const block = new DataView(new ArrayBuffer(512));
    writeRefcount(block, 0, 0, 1);
    writeRefcount(block, 5, 1, 2);
    expect([block.getUint8(0), block.getUint8(1)]).toEqual([1, 0b1000]);
  });

  it('that do not fit are refused', () => {
    const block = new DataView(new ArrayBuffer(512));
    expect(() => writeRefcount(block, 0, 0, 2)).toThrow(RangeError);
    expect(() => writeRefcount(block, 0, 4, 65_536)).toThrow(RangeError);
    expect(() => writeRefcount(block, 0, 4, -1)).toThrow(RangeError);
  });

  it('have a table that is read as it was written', () => {
    fc.assert(
      fc.property(placeArbitrary, ({ clusterBits, hostOffset }) => {
        const view = table();
        writeRefcountTableEntry(view, 2, hostOffset);
        expect(readRefcountTableEntry(view, 2, clusterBits)).toEqual({ blockOffset: hostOffset });
      }),
    );
  });

  it.each([
    ['reserved bits', 0x1_0001n, 'reserved bits are set'],
    ['an unaligned offset', 0x1_0200n, 'the offset 66048 is not a multiple of 65536'],
    ['an offset of 2^60', 1n << 60n, 'the offset is 2^53 or more'],
  ])('say what is wrong with %s in their table', (_what, bits, fault) => {
    const view = table();
    view.setBigUint64(0, bits);
    expect(readRefcountTableEntry(view, 0, 16).fault).toBe(fault);
  });
});

describe('bitmap table entries', () => {
  it('are read as they were written', () => {
    fc.assert(
      fc.property(placeArbitrary, fc.boolean(), ({ clusterBits, hostOffset }, allOnes) => {
        const view = table();
        const entry = allOnes ? { offset: 0, allOnes } : { offset: hostOffset, allOnes };
        writeBitmapTableEntry(view, 3, entry);
        expect(readBitmapTableEntry(view, 3, 2 ** clusterBits)).toEqual(entry);
      }),
    );
  });

  it.each([
    ['reserved bits', 0x1_0002n, 'reserved bits are set'],
    ['an unaligned offset', 0x1_0200n, 'the offset 66048 is not a multiple of 65536'],
    ['all ones and an offset', 0x1_0001n, 'all bits are said to be one and to be stored'],
  ])('say what is wrong with %s', (_what, bits, fault) => {
    const view = table();
    view.setBigUint64(0, bits);
    expect(readBitmapTableEntry(view, 0, 65_536).fault).toBe(fault);
  });
});
