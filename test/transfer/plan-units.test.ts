// Planning a transfer: units hold every byte of data once, in order, and say how to read it and what to expect.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Extent } from '../../src/disk/extent.ts';
import { RANGE_CLUSTERS } from '../../src/transfer/expected-view.ts';
import { planUnits, SourceTable, type UnitPlan } from '../../src/transfer/plan-units.ts';
import { CLUSTER, PIECE, PIECE_NUMBERS, type Unit } from '../../src/transfer/unit.ts';
import { bytesSource } from '../repository/model-disk.ts';
import { diskOf, viewOf } from './transfer-parts.ts';

const KIB = 1024;
const MIB = KIB * KIB;

interface Piece {
  readonly offset: number;
  readonly length: number;
  readonly source: number;
  readonly at: number;
  readonly storedLength: number;
  readonly compression: number;
  readonly expanded: number;
}

function piecesOf(unit: Unit): Piece[] {
  return Array.from({ length: unit.pieces.length / PIECE_NUMBERS }, (_, index) => {
    const number = (field: number): number => unit.pieces[index * PIECE_NUMBERS + field] ?? -1;
    return {
      offset: unit.offset + number(PIECE.OFFSET),
      length: number(PIECE.LENGTH),
      source: number(PIECE.SOURCE),
      at: number(PIECE.AT),
      storedLength: number(PIECE.STORED_LENGTH),
      compression: number(PIECE.COMPRESSION),
      expanded: number(PIECE.EXPANDED),
    };
  });
}

async function plan(size: number, extents: readonly Extent[], change: Partial<UnitPlan> = {}): Promise<Unit[]> {
  const reader = diskOf(size, async function* ({ offset, length }) {
    for (const extent of extents) {
      const start = Math.max(extent.offset, offset);
      const end = Math.min(extent.offset + extent.length, offset + length);
      if (start >= end) continue;
      if (start === extent.offset && end === extent.offset + extent.length) yield extent;
      else if (extent.stored?.compression === 'none') {
        yield {
          ...extent,
          offset: start,
          length: end - start,
          stored: { ...extent.stored, offset: extent.stored.offset + start - extent.offset },
        };
      } else yield { offset: start, length: end - start, kind: extent.kind };
    }
  });
  const units: Unit[] = [];
  const whole = {
    reader,
    clusterSize: 4 * KIB,
    unitBytes: MIB,
    view: viewOf([]),
    expected: 'ignore',
    sources: new SourceTable(),
    ...change,
  } as const;
  for await (const unit of planUnits(whole)) units.push(unit);
  return units;
}

const source = bytesSource(Buffer.alloc(0));
const data = (offset: number, length: number, at = offset): Extent => ({
  offset,
  length,
  kind: 'data',
  stored: { source, offset: at, length, compression: 'none' },
});
const stream = (offset: number, length: number, at: number, stored: number, expanded = length): Extent => ({
  offset,
  length,
  kind: 'data',
  stored: { source, offset: at, length: stored, compression: 'zstd', expandedLength: expanded },
});

describe('units', () => {
  it('hold all data once, in order, inside windows, whatever the extents', async () => {
    const cut = fc.array(fc.tuple(fc.nat(400 * KIB), fc.constantFrom('data', 'zero', 'absent', 'opaque')), { maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(cut, fc.constantFrom(512, 4 * KIB, 64 * KIB, 2 * MIB), fc.nat(1000), async (cuts, clusterSize, more) => {
        const extents: Extent[] = [];
        let size = 0;
        for (const [length, kind] of cuts) {
          if (length === 0) continue;
          extents.push(
            kind === 'data'
              ? data(size, length, 7 * size)
              : kind === 'opaque'
                ? { offset: size, length, kind: 'data' }
                : { offset: size, length, kind },
          );
          size += length;
        }
        if (more > 0) extents.push({ offset: size, length: more, kind: 'zero' });
        size += more;
        const unitBytes = Math.max(MIB, clusterSize);
        const units = await plan(size, extents, { clusterSize, unitBytes });
        expect(units.map((unit) => unit.seq)).toEqual(units.map((_, index) => index));
        let end = 0;
        for (const unit of units) {
          expect(unit.offset % clusterSize).toBe(0);
          expect(unit.offset).toBeGreaterThanOrEqual(end);
          expect(unit.length).toBeGreaterThan(0);
          end = unit.offset + unit.length;
          expect(end % clusterSize === 0 || end === size).toBe(true);
          expect(Math.floor(unit.offset / unitBytes)).toBe(Math.floor((end - 1) / unitBytes));
        }
        expect(end).toBeLessThanOrEqual(size);
        const pieces = units.flatMap(piecesOf);
        const wanted = extents.filter((extent) => extent.kind === 'data');
        expect(joined(pieces)).toEqual(
          joined(
            wanted.map((extent) => ({
              offset: extent.offset,
              length: extent.length,
              source: extent.stored ? 0 : -1,
              at: extent.stored?.offset ?? extent.offset,
            })),
          ),
        );
      }),
      { numRuns: 150 },
    );
  });

  /** Neighbours that go on in the same source become one. */
  function joined(pieces: readonly Pick<Piece, 'offset' | 'length' | 'source' | 'at'>[]): unknown[] {
    const found: { offset: number; length: number; source: number; at: number }[] = [];
    for (const { offset, length, source: from, at } of pieces) {
      const last = found.at(-1);
      if (last && last.source === from && last.offset + last.length === offset && last.at + last.length === at) last.length += length;
      else found.push({ offset, length, source: from, at });
    }
    return found;
  }

  it('give a compressed stream to one thread whole, or let the reader expand it', async () => {
    const clusterSize = 64 * KIB;
    // A stream of a source with clusters of 2 MiB reaches through two windows, and one may be cut by the end of the disk.
    const extents = [stream(0, clusterSize, 1000, 700), stream(MIB, 2 * MIB, 5000, 9000), stream(3 * MIB, 100, 20_000, 512, clusterSize)];
    const units = await plan(3 * MIB + 100, extents, { clusterSize });
    expect(units.flatMap(piecesOf)).toEqual([
      { offset: 0, length: clusterSize, source: 0, at: 1000, storedLength: 700, compression: 2, expanded: clusterSize },
      { offset: MIB, length: MIB, source: -1, at: MIB, storedLength: 0, compression: 0, expanded: 0 },
      { offset: 2 * MIB, length: MIB, source: -1, at: 2 * MIB, storedLength: 0, compression: 0, expanded: 0 },
      { offset: 3 * MIB, length: 100, source: 0, at: 20_000, storedLength: 512, compression: 2, expanded: clusterSize },
    ]);
    const zlib: Extent = { offset: 0, length: 512, kind: 'data', stored: { source, offset: 3, length: 9, compression: 'zlib' } };
    expect((await plan(512, [zlib], { clusterSize: 512 })).flatMap(piecesOf)).toEqual([
      { offset: 0, length: 512, source: 0, at: 3, storedLength: 9, compression: 1, expanded: 512 },
    ]);
  });

  it('know the exact length of a stream from the record that is checked, and only from that', async () => {
    const clusterSize = 4 * KIB;
    const digest = Buffer.alloc(32, 1);
    const view = viewOf(
      [digest, digest, digest],
      [
        { length: 300, crc: 77 },
        { length: 9999, crc: 78 },
        { length: 0, crc: 0 },
      ],
    );
    const extents = [
      stream(0, clusterSize, 1000, 700),
      stream(clusterSize, clusterSize, 2000, 700),
      stream(2 * clusterSize, clusterSize, 3000, 700),
    ];
    for (const expected of ['require', 'report'] as const) {
      const [unit] = await plan(3 * clusterSize, extents, { clusterSize, view, expected });
      expect(unit && piecesOf(unit).map((piece) => piece.storedLength)).toEqual([300, 700, 700]);
      expect([...(unit?.expectedCrcs ?? [])]).toEqual([77, 78, 0]);
    }
    // What is compared with a parent is another source: its streams are as long as they are.
    const [unit] = await plan(3 * clusterSize, extents, { clusterSize, view, expected: 'compare' });
    expect(unit && piecesOf(unit).map((piece) => piece.storedLength)).toEqual([700, 700, 700]);
    expect(unit?.expectedCrcs).toBeUndefined();
    expect([...(unit?.expectedKinds ?? [])]).toEqual([CLUSTER.DATA, CLUSTER.DATA, CLUSTER.DATA]);
    // A stream of larger clusters than those of the record.
    const wide = [stream(0, 3 * clusterSize, 1000, 900)];
    const [other] = await plan(3 * clusterSize, wide, { clusterSize, view, expected: 'require' });
    expect(other && piecesOf(other).map((piece) => piece.storedLength)).toEqual([900]);
  });

  it('look at every cluster that must hold data, also where the disk has none', async () => {
    const clusterSize = 512;
    const digest = Buffer.alloc(32, 1);
    const recorded = new Map([
      [0, digest],
      [2047, digest],
      [2048, digest],
      [5000, digest],
      [RANGE_CLUSTERS, digest],
      [RANGE_CLUSTERS + 10, digest],
    ]);
    const clusters = Array.from(
      { length: 3 * RANGE_CLUSTERS },
      (_, cluster) => recorded.get(cluster) ?? (cluster === 7000 ? ('zero' as const) : undefined),
    );
    const size = 3 * RANGE_CLUSTERS * clusterSize;
    const behind = data(2 * RANGE_CLUSTERS * clusterSize + 512, 512);
    for (const expected of ['require', 'report'] as const) {
      const units = await plan(size, [behind], { clusterSize, view: viewOf(clusters), expected });
      const covered = new Set(
        units.flatMap((unit) =>
          Array.from({ length: Math.ceil(unit.length / clusterSize) }, (_, index) => unit.offset / clusterSize + index),
        ),
      );
      for (const cluster of recorded.keys()) expect(covered.has(cluster), `${expected} ${cluster}`).toBe(true);
      // Data without a record: a report finds it, a restore gives what is recorded and does not look.
      expect(covered.has(2 * RANGE_CLUSTERS + 1)).toBe(expected === 'report');
      for (const unit of units) {
        for (const [index, kind] of (unit.expectedKinds ?? []).entries()) {
          const cluster = unit.offset / clusterSize + index;
          expect(kind).toBe(recorded.has(cluster) ? CLUSTER.DATA : cluster === 7000 ? CLUSTER.ZERO : CLUSTER.UNKNOWN);
        }
      }
    }
    expect(await plan(size, [], { clusterSize, view: viewOf(clusters), expected: 'compare' })).toEqual([]);
    expect(await plan(size, [], { clusterSize, view: viewOf(clusters), expected: 'ignore' })).toEqual([]);
  });

  it('carry copies of what is expected: who made it may use its memory again', async () => {
    const view = viewOf([Buffer.alloc(32, 5)]);
    const kept = await view.range(0);
    const units = await plan(4 * KIB, [data(0, 4 * KIB)], { view: { range: async () => kept }, expected: 'compare' });
    kept?.kinds.fill(0);
    expect(units[0]?.expectedDigests).toEqual(new Uint8Array(32).fill(5));
    expect(units[0]?.expectedKinds).toEqual(new Uint8Array([CLUSTER.DATA]));
    expect(units[0]?.expectedDigests?.buffer.byteLength).toBe(32);
  });

  it('name each source once', () => {
    const table = new SourceTable();
    const other = bytesSource(Buffer.alloc(1));
    expect([table.indexOf(source), table.indexOf(other), table.indexOf(source)]).toEqual([0, 1, 0]);
    expect([table.at(0), table.at(1), table.at(2)]).toEqual([source, other, undefined]);
  });

  it('end with an error of the reader, or when nobody wants them any more', async () => {
    const trouble = new Error('a damaged table');
    const reader = diskOf(10 * MIB, async function* () {
      yield data(0, 100);
      throw trouble;
    });
    await expect(plan(0, [], { reader })).rejects.toBe(trouble);
    await expect(plan(MIB, [], { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  it('stay few on a huge disk with little in it', async () => {
    const tib = 2 ** 40;
    const extents = Array.from({ length: 100 }, (_, index) => data(index * 655 * 2 ** 28, 4096));
    const units = await plan(16 * tib, extents, { clusterSize: 64 * KIB });
    expect(units.length).toBe(100);
    expect(units.every((unit) => unit.length === 64 * KIB)).toBe(true);
  });
});
