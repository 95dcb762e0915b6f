// What just fits is read, and one more of it is refused: every limit of a header from both sides, and runs of entries up to their very end.

import { describe, expect, it } from 'vitest';
import { isChainkeepError } from '../../src/plumbing/errors.ts';
import { encodeHeader, type HeaderFields, parseHeader, type Qcow2Header } from '../../src/qcow2/header.ts';
import { encodeHeaderExtensions, parseHeaderExtensions } from '../../src/qcow2/header-extensions.ts';
import { type L2Shape, writeStandardEntry } from '../../src/qcow2/l2-entry.ts';
import { readRun } from '../../src/qcow2/l2-run.ts';
import { DEFAULT_LIMITS, type Qcow2Limits } from '../../src/qcow2/limits.ts';
import { CLUSTER, craftImage, PLACE } from './crafted-image.ts';

type Change = (view: DataView, bytes: Buffer) => void;

/** The header as it is read, or the words of the refusal. */
function outcome(change: Change, limits: Partial<Qcow2Limits> = {}, fields: Partial<HeaderFields> = {}): Qcow2Header | string {
  const { bytes, view } = craftImage(fields);
  change(view, bytes);
  try {
    return parseHeader(bytes, bytes.length, { ...DEFAULT_LIMITS, ...limits });
  } catch (error) {
    if (isChainkeepError(error)) return error.message;
    throw error;
  }
}

const nothing: Change = () => undefined;
const REFUSED = expect.stringMatching(/./);
const READ = expect.objectContaining({ clusterBits: expect.any(Number) });

describe('a limit', () => {
  it.each<[string, Partial<Qcow2Limits>, Partial<Qcow2Limits>, Change]>([
    ['the virtual size', { virtualSize: 4 * 1024 ** 2 }, { virtualSize: 4 * 1024 ** 2 - 1 }, nothing],
    ['the L1 table', { l1Bytes: 8 }, { l1Bytes: 7 }, nothing],
    ['the refcount table', { refcountTableBytes: CLUSTER }, { refcountTableBytes: CLUSTER - 1 }, nothing],
    [
      'the number of snapshots',
      { snapshots: 3 },
      { snapshots: 2 },
      (view) => {
        view.setUint32(60, 3);
        view.setBigUint64(64, BigInt(PLACE.l2 * CLUSTER));
      },
    ],
  ])('of %s is kept to the last one', (_what, enough, tooLittle, change) => {
    expect(outcome(change, enough)).toEqual(READ);
    expect(outcome(change, tooLittle)).toEqual(REFUSED);
  });

  it('of the refcount order is 6', () => {
    expect(outcome((view) => view.setUint32(96, 6))).toEqual(READ);
    expect(outcome((view) => view.setUint32(96, 7))).toMatch(/refcount_order is 7/);
  });

  it('of extended entries is a cluster of 16 KiB', () => {
    const header = (clusterBits: number): Buffer => {
      const bytes = Buffer.alloc(8 * 2 ** clusterBits);
      const clusterSize = 2 ** clusterBits;
      bytes.set(
        encodeHeader({
          clusterBits,
          size: 4096,
          l1Size: 1,
          l1Offset: clusterSize,
          refcountTableOffset: 2 * clusterSize,
          refcountTableClusters: 1,
          refcountOrder: 4,
          compressionType: 'zlib',
        }),
      );
      bytes.writeBigUInt64BE(1n << 4n, 72);
      return bytes;
    };
    const parse = (bytes: Buffer): Qcow2Header => parseHeader(bytes, bytes.length, DEFAULT_LIMITS);
    expect(parse(header(14))).toMatchObject({ extendedL2: true });
    expect(() => parse(header(13))).toThrow(/at least 16 KiB/);
  });
});

describe('a disk of nothing', () => {
  it('needs no L1 table, but not one that lies askew', () => {
    const fields = { size: 0, l1Size: 0, l1Offset: 0 };
    expect(outcome(nothing, {}, fields)).toMatchObject({ size: 0, l1Size: 0 });
    expect(outcome(nothing, {}, { ...fields, l1Offset: 7 * CLUSTER })).toMatchObject({ size: 0 });
    expect(outcome(nothing, {}, { ...fields, l1Offset: 512 })).toMatch(/L1 table lies at 512/);
  });
});

describe('what is too short', () => {
  it.each([0, 3, 4, 71, 72, 103])('a file of %i bytes is no image', (length) => {
    const { bytes } = craftImage();
    expect(() => parseHeader(bytes.subarray(0, length), length, DEFAULT_LIMITS)).toThrow(
      expect.objectContaining({ code: 'QCOW2_INVALID' }),
    );
  });

  it('an unknown extension may fill its area to the last byte, and not one more', () => {
    const area = encodeHeaderExtensions([{ type: 0x12345678, data: new Uint8Array(16) }]);
    const record = area.subarray(0, 24);
    expect(parseHeaderExtensions(record, 0, 24, DEFAULT_LIMITS)).toEqual([{ type: 0x12345678, data: new Uint8Array(16) }]);
    expect(() => parseHeaderExtensions(record, 0, 23, DEFAULT_LIMITS)).toThrow(/16 bytes long, 15 are left/);
  });

  it('what follows the last whole record must be zero', () => {
    const record = Buffer.concat([
      encodeHeaderExtensions([{ type: 0x12345678, data: new Uint8Array(8) }]).subarray(0, 16),
      Buffer.alloc(7),
    ]);
    expect(parseHeaderExtensions(record, 0, 16, DEFAULT_LIMITS)).toHaveLength(1);
    expect(parseHeaderExtensions(record, 0, 23, DEFAULT_LIMITS)).toHaveLength(1);
    record[22] = 1;
    expect(() => parseHeaderExtensions(record, 0, 23, DEFAULT_LIMITS)).toThrow(/ends in the middle of a record/);
  });
});

describe('a run of extended entries', () => {
  const shape: L2Shape = { clusterBits: 16, extended: true, version: 3 };
  const ALL = 0xffff_ffff;

  function table(count: number, first: number): DataView {
    const view = new DataView(new ArrayBuffer(count * 16));
    for (let index = 0; index < count; index += 1) {
      // Extended entries are as long as two plain ones; the offset stands in the first.
      writeStandardEntry(view, index * 2, first + index * CLUSTER);
      view.setUint32(index * 16 + 8, 0);
      view.setUint32(index * 16 + 12, ALL);
    }
    return view;
  }

  it('goes over the border of 4 GiB', () => {
    expect(readRun(table(4, 2 ** 32 - 2 * CLUSTER), 0, 4, shape)).toMatchObject({ count: 4, entry: { kind: 'standard' } });
    expect(readRun(table(4, 2 ** 32 - 2 * CLUSTER), 1, 3, shape).count).toBe(2);
  });

  it('ends where an offset, or one half of the bitmap, is another', () => {
    for (const [at, value] of [
      [2 * 16, 1],
      [2 * 16 + 4, 5 * CLUSTER],
      [2 * 16 + 8, 1],
      [2 * 16 + 12, ALL - 1],
    ] as const) {
      const view = table(4, 10 * CLUSTER);
      view.setUint32(at, value);
      expect(readRun(view, 0, 4, shape).count, `at ${at}`).toBe(2);
    }
  });

  it('is one entry where its subclusters differ', () => {
    const view = table(3, 10 * CLUSTER);
    for (let index = 0; index < 3; index += 1) view.setUint32(index * 16 + 12, 0x0000_ffff);
    expect(readRun(view, 0, 3, shape)).toMatchObject({ count: 1, entry: { kind: 'mixed' } });
  });
});
