// Whatever bytes an image has: it is read, or refused with an error that says so. Nothing else is thrown, and nothing runs away.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isChainkeepError } from '../../src/plumbing/errors.ts';
import { checkImage } from '../../src/qcow2/checker.ts';
import { openQcow2 } from '../../src/qcow2/image.ts';
import { readImageInfo } from '../../src/qcow2/image-info.ts';
import { mapImage } from '../../src/qcow2/image-map.ts';
import { writeCompressedEntry, writeStandardEntry, writeZeroEntry } from '../../src/qcow2/l2-entry.ts';
import { CLUSTER, craftImage, PLACE } from './crafted-image.ts';
import { memorySource } from './memory-source.ts';
import { noise } from './qemu-tools.ts';
import { readByExtents } from './real-image.ts';

const DISK = 20 * CLUSTER;
/** A larger number by hand: `CHAINKEEP_FUZZ_RUNS=20000 npx vitest run test/qcow2/fuzz.test.ts --test-timeout=3600000`. */
const RUNS = Number(process.env.CHAINKEEP_FUZZ_RUNS ?? 100);

function healthyBytes(extended: boolean): Buffer {
  const { bytes, view, l2 } = craftImage({ size: DISK, compressionType: 'zstd' }, 4);
  noise(2 * CLUSTER, 1).copy(bytes, PLACE.data * CLUSTER);
  if (extended) {
    view.setBigUint64(72, 8n | 16n);
    for (let index = 0; index < 4; index += 1) {
      l2.setBigUint64(index * 16, (1n << 63n) | BigInt((PLACE.data + index) * CLUSTER));
      l2.setBigUint64(index * 16 + 8, 0xff00_ff00_00ff_00ffn << 8n);
    }
    return bytes;
  }
  for (let index = 0; index < 3; index += 1) writeStandardEntry(l2, index, (PLACE.data + index) * CLUSTER);
  writeZeroEntry(l2, 4);
  writeCompressedEntry(l2, 5, 16, (PLACE.data + 3) * CLUSTER + 100, 1000);
  return bytes;
}

const HEALTHY = [healthyBytes(false), healthyBytes(true)];

/** Most changes hit the bytes that decide something: the header, and the first entries of each table. */
const changeArbitrary = fc.record({
  at: fc.oneof(
    fc.nat(112),
    fc
      .constantFrom(PLACE.l1, PLACE.l2, PLACE.refcountTable, PLACE.refcountBlock)
      .chain((place) => fc.nat(100).map((at) => place * CLUSTER + at)),
    fc.nat((PLACE.data + 4) * CLUSTER - 1),
  ),
  mask: fc.integer({ min: 1, max: 255 }),
});

async function refusalOr<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (isChainkeepError(error, 'QCOW2_INVALID') || isChainkeepError(error, 'QCOW2_UNSUPPORTED')) return undefined;
    throw error;
  }
}

describe('a damaged image', () => {
  it.each([true, false])('is read or refused (strict: %s)', async (strict) => {
    let refused = 0;
    let read = 0;
    const arbitrary = fc.tuple(fc.constantFrom(...HEALTHY), fc.array(changeArbitrary, { minLength: 1, maxLength: 3 }), fc.nat(3));
    await fc.assert(
      fc.asyncProperty(arbitrary, async ([healthy, changes, cut]) => {
        const bytes = Buffer.from(healthy);
        for (const { at, mask } of changes) bytes.writeUInt8(bytes.readUInt8(at) ^ mask, at);
        const source = memorySource(cut === 0 ? bytes.subarray(0, bytes.length - (changes[0]?.at ?? 0)) : bytes);
        await refusalOr(() => readImageInfo(source));
        await refusalOr(() => checkImage(source, { windowClusters: 1000, mostTables: 100 }));
        const image = await refusalOr(() => openQcow2(source, { strict, layer: true }));
        if (!image) {
          refused += 1;
          return;
        }
        await refusalOr(() => Array.fromAsync(mapImage([image])));
        const content = await refusalOr(async () => {
          const buffer = Buffer.alloc(Math.min(image.size, DISK), 0xee);
          await image.read(buffer, 0);
          return buffer;
        });
        if (!content) return;
        read += 1;
        if (image.size <= 2 * DISK) {
          const again = await refusalOr(() => readByExtents(image));
          if (again) expect(again.subarray(0, content.length).equals(content)).toBe(true);
        }
      }),
      { numRuns: RUNS },
    );
    expect(refused).toBeGreaterThan(RUNS / 20);
    expect(read).toBeGreaterThan(RUNS / 20);
  });
});
