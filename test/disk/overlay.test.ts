import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { DiskReader } from '../../src/disk/disk-reader.ts';
import type { Extent, ExtentKind } from '../../src/disk/extent.ts';
import { overlay, overlayExtents } from '../../src/disk/overlay.ts';

const UNIT = 16;

/** A disk of units, each of one kind; data units hold the number of the layer. `size` may cut the last unit. */
function layerOf(kinds: readonly ExtentKind[], fill: number, size = kinds.length * UNIT): DiskReader & { readonly closed: () => boolean } {
  let closed = false;
  return {
    size,
    name: `layer ${fill}`,
    async *extents({ offset, length }): AsyncGenerator<Extent> {
      for (let at = offset; at < offset + length; ) {
        const unit = Math.floor(at / UNIT);
        const end = Math.min(offset + length, (unit + 1) * UNIT);
        yield { offset: at, length: end - at, kind: kinds[unit] ?? 'absent' };
        at = end;
      }
    },
    async read(buffer, offset) {
      if (offset + buffer.length > size) throw new Error('read behind the end');
      for (let index = 0; index < buffer.length; index += 1) {
        const kind = kinds[Math.floor((offset + index) / UNIT)];
        if (kind !== 'data') throw new Error(`layer ${fill} was asked for ${kind}`);
        buffer[index] = fill;
      }
    },
    close: async () => {
      closed = true;
    },
    closed: () => closed,
  };
}

const kindArbitrary = fc.constantFrom<ExtentKind>('data', 'zero', 'absent', 'absent');
const layersArbitrary = fc.array(fc.record({ kinds: fc.array(kindArbitrary, { minLength: 1, maxLength: 20 }), cut: fc.nat(UNIT - 1) }), {
  minLength: 1,
  maxLength: 6,
});

/** The rule itself, byte by byte: the newest layer that decides, and zeros from where a layer ends. */
function truth(layers: readonly { kinds: readonly ExtentKind[]; size: number }[]): number[] {
  return Array.from({ length: layers[0]?.size ?? 0 }, (_, at) => {
    for (const [depth, { kinds, size }] of layers.entries()) {
      if (at >= size) return 0;
      const kind = kinds[Math.floor(at / UNIT)];
      if (kind === 'data') return depth + 1;
      if (kind === 'zero') return 0;
    }
    return 0;
  });
}

describe('overlay', () => {
  it('reads what the newest layer that decides says, in any piece', async () => {
    await fc.assert(
      fc.asyncProperty(layersArbitrary, fc.nat(), fc.nat(), fc.integer({ min: 1, max: 8 }), async (shapes, from, span, mostPieces) => {
        const sized = shapes.map(({ kinds, cut }) => ({ kinds, size: kinds.length * UNIT - cut }));
        const layers = sized.map(({ kinds, size }, depth) => layerOf(kinds, depth + 1, size));
        const disk = overlay(layers);
        const expected = truth(sized);
        const offset = from % disk.size;
        const length = (span % (disk.size - offset)) + 1;
        const buffer = new Uint8Array(length).fill(0xee);
        await disk.read(buffer, offset);
        expect([...buffer]).toEqual(expected.slice(offset, offset + length));

        let at = offset;
        for await (const { extent, depth } of overlayExtents(layers, { offset, length }, mostPieces)) {
          expect(extent.offset).toBe(at);
          expect(extent.length).toBeGreaterThan(0);
          at += extent.length;
          for (let byte = extent.offset; byte < at; byte += 1) expect(expected[byte]).toBe(extent.kind === 'data' ? depth + 1 : 0);
        }
        expect(at).toBe(offset + length);
      }),
      { numRuns: 300 },
    );
  });

  it('keeps absent apart from zero, and joins what is the same', async () => {
    const disk = overlay([
      layerOf(['absent', 'absent', 'zero', 'absent', 'data'], 1),
      layerOf(['absent', 'absent', 'data', 'zero', 'data'], 2),
    ]);
    expect(await Array.fromAsync(disk.extents({ offset: 0, length: disk.size }))).toEqual([
      { offset: 0, length: 32, kind: 'absent' },
      { offset: 32, length: 16, kind: 'zero' },
      { offset: 48, length: 16, kind: 'zero' },
      { offset: 64, length: 16, kind: 'data' },
    ]);
    expect(disk).toMatchObject({ size: 80, name: 'layer 1' });
  });

  it('is zero behind the end of a layer, even where a deeper one is longer', async () => {
    const layers = [layerOf(['absent', 'absent', 'absent'], 1), layerOf(['absent'], 2), layerOf(['data', 'data', 'data'], 3)];
    expect(await Array.fromAsync(overlayExtents(layers, { offset: 0, length: 48 }))).toEqual([
      { extent: { offset: 0, length: 16, kind: 'data' }, depth: 2 },
      { extent: { offset: 16, length: 32, kind: 'zero' }, depth: 0, beyond: true },
    ]);
  });

  it('asks each layer for the rest once, whatever its size', async () => {
    const calls: number[] = [];
    const counted = (layer: DiskReader): DiskReader => ({
      ...layer,
      extents: (range) => {
        calls.push(range.length);
        return layer.extents(range);
      },
    });
    const disk = overlay([counted(layerOf(Array(50).fill('absent'), 1)), counted(layerOf(Array(50).fill('absent'), 2))]);
    await Array.fromAsync(disk.extents({ offset: 0, length: disk.size }));
    expect(calls[0]).toBe(800);
    expect(calls.slice(1).reduce((sum, length) => sum + length, 0)).toBe(800);
  });

  it('carries the place of the bytes through', async () => {
    const source = { name: 'file', size: 100, read: async () => undefined, close: async () => undefined };
    const stored = { source, offset: 5, length: 16, compression: 'none' as const };
    const below: DiskReader = {
      ...layerOf(['data'], 2),
      async *extents() {
        yield { offset: 0, length: 16, kind: 'data', stored };
      },
    };
    const [extent] = await Array.fromAsync(overlay([layerOf(['absent'], 1), below]).extents({ offset: 0, length: 16 }));
    expect(extent?.stored).toBe(stored);
  });

  it('closes all layers, also when one fails', async () => {
    const layers = [layerOf(['data'], 1), layerOf(['data'], 2)];
    const broken: DiskReader = { ...layerOf(['data'], 3), close: () => Promise.reject(new Error('cannot close')) };
    await expect(overlay([broken, ...layers]).close()).rejects.toThrow('cannot close');
    expect(layers.map((layer) => layer.closed())).toEqual([true, true]);
  });

  it('needs a layer', () => {
    expect(() => overlay([])).toThrow(RangeError);
  });
});
