import { execFileSync } from 'node:child_process';
import { constants, deflateRawSync, deflateSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { loadNative } from '../../src/plumbing/native.ts';
import { type ClusterCodec, createClusterCodec } from '../../src/qcow2/cluster-codec.ts';
import { openNativeInflate } from '../../src/qcow2/native-inflate.ts';
import { openNativeZstd } from '../../src/qcow2/zstd-engine.ts';
import { parseZstdFrame } from '../../src/qcow2/zstd-frame.ts';
import { noise } from './qemu-tools.ts';

const CLUSTER = 65_536;
const hasNative = loadNative() !== undefined;

/** Half of it repeats, so that it compresses. */
function cluster(seed: number): Buffer {
  return Buffer.concat([noise(CLUSTER / 4, seed), Buffer.alloc(CLUSTER / 4, 7), noise(CLUSTER / 4, seed), Buffer.alloc(CLUSTER / 4)]);
}

function decompress(codec: ClusterCodec, compression: 'zlib' | 'zstd', stored: Uint8Array, length = CLUSTER): Buffer {
  // Guards on both sides: nothing may be written outside of the output.
  const memory = Buffer.alloc(length + 128, 0x55);
  codec.decompress(compression, stored, memory.subarray(64, 64 + length));
  expect(memory.subarray(0, 64).every((byte) => byte === 0x55)).toBe(true);
  expect(memory.subarray(64 + length).every((byte) => byte === 0x55)).toBe(true);
  return memory.subarray(64, 64 + length);
}

function skippable(length: number): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(0x184d2a53, 0);
  head.writeUInt32LE(length, 4);
  return Buffer.concat([head, noise(length, 3)]);
}

const withChecksum = { params: { [constants.ZSTD_c_checksumFlag]: 1 } };

describe.each([
  { native: true, name: 'the zstd linked into Node' },
  { native: false, name: 'node:zlib' },
])('a cluster codec with $name', ({ native }) => {
  const codec = createClusterCodec({ native });
  afterAll(() => codec.close());
  const plain = cluster(1);

  it.each([9, 12, 16, 21])('gives back what it compressed, clusters of 2^%i bytes', (bits) => {
    const original = Buffer.concat([noise(2 ** bits / 8, bits), Buffer.alloc(2 ** bits - 2 ** bits / 8, 3)]);
    const output = new Uint8Array(2 ** bits);
    for (const level of [1, 3]) {
      const length = codec.compressZstd(original, output, level);
      expect(length).toBeGreaterThan(0);
      expect(decompress(codec, 'zstd', output.subarray(0, length), original.length).equals(original)).toBe(true);
    }
    const length = codec.compressZlib(original, output, 6);
    expect(length).toBeGreaterThan(0);
    expect(decompress(codec, 'zlib', output.subarray(0, length), original.length).equals(original)).toBe(true);
  });

  it('answers 0 where the result would not be smaller than the cluster, or does not fit', () => {
    const output = new Uint8Array(CLUSTER * 2);
    expect(codec.compressZstd(noise(CLUSTER, 9), output, 1)).toBe(0);
    expect(codec.compressZlib(noise(CLUSTER, 9), output, 6)).toBe(0);
    expect(codec.compressZstd(plain, output.subarray(0, 100), 1)).toBe(0);
    expect(codec.compressZlib(plain, output.subarray(0, 100), 6)).toBe(0);
  });

  it('works on memory that threads share', () => {
    const shared = new SharedArrayBuffer(3 * CLUSTER);
    const source = new Uint8Array(shared, 0, CLUSTER);
    source.set(plain);
    const stored = new Uint8Array(shared, CLUSTER, CLUSTER);
    const length = codec.compressZstd(source, stored, 1);
    const output = new Uint8Array(shared, 2 * CLUSTER, CLUSTER);
    codec.decompress('zstd', stored.subarray(0, length), output);
    expect(Buffer.from(output).equals(plain)).toBe(true);
  });

  it('can be closed twice and used again', () => {
    const other = createClusterCodec({ native });
    const output = new Uint8Array(CLUSTER);
    other.compressZstd(plain, output, 1);
    other.close();
    other.close();
    expect(other.compressZstd(plain, output, 1)).toBeGreaterThan(0);
    other.close();
  });

  describe('zlib', () => {
    it('ignores what lies behind the stream', () => {
      const stored = Buffer.concat([deflateRawSync(plain), noise(500, 4)]);
      expect(decompress(codec, 'zlib', stored).equals(plain)).toBe(true);
    });

    it('reads a window of 32 KiB', () => {
      const far = Buffer.concat([noise(30_000, 5), noise(30_000, 5), Buffer.alloc(CLUSTER - 60_000)]);
      const stored = deflateRawSync(far, { windowBits: 15, level: 9 });
      expect(stored.length).toBeLessThan(40_000);
      expect(decompress(codec, 'zlib', stored).equals(far)).toBe(true);
    });

    it.each([CLUSTER + 1, CLUSTER + 64, CLUSTER + 65, 2 * CLUSTER, 64 * 1024 ** 2])(
      'stops at the cluster where the stream has %i bytes',
      (length) => {
        const stored = deflateRawSync(Buffer.concat([plain, Buffer.alloc(length - CLUSTER)]));
        expect(decompress(codec, 'zlib', stored).equals(plain)).toBe(true);
        const incompressible = deflateRawSync(Buffer.concat([plain, noise(Math.min(length - CLUSTER, 100_000), 6)]));
        expect(decompress(codec, 'zlib', incompressible).equals(plain)).toBe(true);
        const stored0 = deflateRawSync(Buffer.concat([plain, Buffer.alloc(Math.min(length - CLUSTER, 100_000), 1)]), { level: 0 });
        expect(decompress(codec, 'zlib', stored0).equals(plain)).toBe(true);
      },
    );

    it('stops at the cluster also where the rest of the stream is cut off or damaged', () => {
      const long = deflateRawSync(Buffer.concat([plain, noise(200_000, 7)]));
      expect(decompress(codec, 'zlib', long.subarray(0, 150_000)).equals(plain)).toBe(true);
      const damaged = Buffer.from(long);
      damaged.fill(0xff, 150_000);
      expect(decompress(codec, 'zlib', damaged).equals(plain)).toBe(true);
    });

    it.each([
      ['a stream that ends a byte too early', deflateRawSync(plain.subarray(0, CLUSTER - 1))],
      ['an empty stream', deflateRawSync(Buffer.alloc(0))],
      ['a stream that is cut off', deflateRawSync(plain).subarray(0, 5000)],
      ['no byte', Buffer.alloc(0)],
      ['a stream without a final block', deflateRawSync(plain, { finishFlush: constants.Z_SYNC_FLUSH })],
      ['a zlib head', deflateSync(plain)],
      ['noise', Buffer.alloc(5000, 0xff)],
    ])('refuses %s', (_what, stored) => {
      expect(() => decompress(codec, 'zlib', stored)).toThrow(expect.objectContaining({ code: 'QCOW2_INVALID' }));
    });
  });

  describe('zstd', () => {
    it.each([
      ['with noise behind it', Buffer.concat([zstdCompressSync(plain), noise(500, 4)])],
      ['with zeros behind it', Buffer.concat([zstdCompressSync(plain), Buffer.alloc(500)])],
      ['with a checksum', zstdCompressSync(plain, withChecksum)],
      ['in two frames', Buffer.concat([zstdCompressSync(plain.subarray(0, 1000)), zstdCompressSync(plain.subarray(1000))])],
      ['behind a skippable frame', Buffer.concat([skippable(100), skippable(0), zstdCompressSync(plain)])],
      ['behind an empty frame', Buffer.concat([zstdCompressSync(Buffer.alloc(0)), zstdCompressSync(plain)])],
      [
        'with a window of 2^27',
        zstdCompressSync(plain, { params: { [constants.ZSTD_c_windowLog]: 27, [constants.ZSTD_c_contentSizeFlag]: 0 } }),
      ],
    ])('reads a cluster %s', (_what, stored) => {
      expect(decompress(codec, 'zstd', stored).equals(plain)).toBe(true);
    });

    const bad = zstdCompressSync(plain, withChecksum);
    bad.writeUInt8((bad.at(-1) ?? 0) ^ 1, bad.length - 1);
    const flipped = zstdCompressSync(plain, withChecksum);
    flipped.writeUInt8((flipped.at(9000) ?? 0) ^ 0x10, 9000);
    const wide = Buffer.from(
      zstdCompressSync(plain, { params: { [constants.ZSTD_c_contentSizeFlag]: 0, [constants.ZSTD_c_windowLog]: 20 } }),
    );
    wide.writeUInt8(21 << 3, 5);
    const huge = Buffer.alloc(18);
    huge.writeUInt32LE(0xfd2fb528, 0);
    huge.writeUInt8(0b1110_0000, 4);
    huge.writeBigUInt64LE(2n ** 40n, 5);
    huge.writeUInt8(1, 13);
    const dictionary = Buffer.from(zstdCompressSync(plain));
    dictionary.writeUInt8((dictionary.at(4) ?? 0) | 3, 4);

    it.each([
      ['a frame that ends a byte too early', zstdCompressSync(plain.subarray(0, CLUSTER - 1))],
      ['a frame that is a byte too long', zstdCompressSync(Buffer.concat([plain, Buffer.alloc(1)]))],
      ['a bomb of 64 MiB', zstdCompressSync(Buffer.alloc(64 * 1024 ** 2))],
      ['a frame that is cut off', zstdCompressSync(plain).subarray(0, 9000)],
      ['no byte', Buffer.alloc(0)],
      ['noise', noise(5000, 8)],
      ['zeros', Buffer.alloc(5000)],
      ['a wrong checksum', bad],
      ['a flipped bit under a checksum', flipped],
      ['a checksum that is cut off', zstdCompressSync(plain, withChecksum).subarray(0, -1)],
      ['a window of 2^31', wide],
      ['a frame that claims a terabyte', huge],
      ['a frame that needs a dictionary', dictionary],
      ['a skippable frame that is cut off', skippable(100).subarray(0, 50)],
      ['a skippable frame and nothing behind it', skippable(100)],
      ['a second frame that does not fit', Buffer.concat([zstdCompressSync(plain.subarray(0, 1000)), zstdCompressSync(plain)])],
    ])('refuses %s', (_what, stored) => {
      expect(() => decompress(codec, 'zstd', stored)).toThrow(expect.objectContaining({ code: 'QCOW2_INVALID' }));
    });
  });

  it('decodes or refuses whatever it is given, and stays in its memory', () => {
    const good = { zlib: deflateRawSync(plain.subarray(0, 4096)), zstd: zstdCompressSync(plain.subarray(0, 4096)) };
    const flips = fc.array(fc.tuple(fc.nat(4000), fc.integer({ min: 1, max: 255 })), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(fc.constantFrom('zlib' as const, 'zstd' as const), flips, fc.nat(4000), (compression, changes, cut) => {
        const stored = Buffer.from(good[compression]);
        for (const [at, mask] of changes) stored.writeUInt8((stored.at(at % stored.length) ?? 0) ^ mask, at % stored.length);
        try {
          decompress(codec, compression, stored.subarray(0, stored.length - (cut % 50)), 4096);
        } catch (error) {
          expect(error).toMatchObject({ code: 'QCOW2_INVALID' });
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('both ways', () => {
  it.runIf(hasNative)('read what the other writes', () => {
    const codecs = [createClusterCodec(), createClusterCodec({ native: false })];
    const original = cluster(2);
    for (const writer of codecs) {
      const stored = new Uint8Array(CLUSTER);
      const length = writer.compressZstd(original, stored, 1);
      for (const reader of codecs) expect(decompress(reader, 'zstd', stored.subarray(0, length)).equals(original)).toBe(true);
    }
    for (const codec of codecs) codec.close();
  });

  it('are chosen by CHAINKEEP_NATIVE=off', () => {
    const program = `
      import { createClusterCodec } from './src/qcow2/cluster-codec.ts';
      import { loadNative } from './src/plumbing/native.ts';
      const output = new Uint8Array(4096);
      const length = createClusterCodec().compressZstd(new Uint8Array(4096), output, 1);
      console.log(loadNative() === undefined, length > 0);`;
    const env = { ...process.env, CHAINKEEP_NATIVE: 'off' };
    const answer = execFileSync(process.execPath, ['--input-type=module', '-e', program], { env, encoding: 'utf8', timeout: 20_000 });
    expect(answer).toBe('true true\n');
  });

  it('fall back where a function is missing', () => {
    const native = {
      errno: () => 0,
      lseek: () => -1,
      symbol: (prototype: string) => (prototype.includes('freeDCtx') ? undefined : () => 0),
    };
    expect(openNativeZstd(native)).toBeUndefined();
  });

  it.runIf(hasNative)('never give two contents for a deflate stream that is cut anywhere, or changed', () => {
    const codecs = [createClusterCodec(), createClusterCodec({ native: false })];
    const answer = (codec: ClusterCodec, stored: Uint8Array): Buffer | undefined => {
      try {
        return decompress(codec, 'zlib', stored);
      } catch (error) {
        expect(error).toMatchObject({ code: 'QCOW2_INVALID' });
        return undefined;
      }
    };
    const plain = Buffer.concat([cluster(3).subarray(0, CLUSTER - 3), Buffer.alloc(20)]);
    const stream = deflateRawSync(plain, { windowBits: 12 });
    const cuts = [stream.length, ...Array.from({ length: 40 }, (_, back) => stream.length - back), 0, 1, 100];
    const pieces = cuts.map((length) => stream.subarray(0, length));
    for (let at = 0; at < stream.length - 100; at += 499) {
      const changed = Buffer.from(stream);
      changed[at] = (changed[at] ?? 0) ^ 4;
      pieces.push(changed);
    }
    let [read, refused] = [0, 0];
    for (const piece of pieces) {
      const [native, portable] = codecs.map((codec) => answer(codec, piece));
      // node:zlib also sees what is wrong right behind the cluster; to refuse that is no harm, another content would be.
      expect(native?.toString('hex')).toBe((portable ?? (native && plain.subarray(0, CLUSTER)))?.toString('hex'));
      if (native) read += 1;
      else refused += 1;
    }
    expect(read).toBeGreaterThan(10);
    expect(refused).toBeGreaterThan(10);
    for (const codec of codecs) codec.close();
  });

  it('fall back where zlib is missing, or of another kind', () => {
    const without = (name: string) => ({
      lseek: () => -1,
      errno: () => 0,
      symbol: (prototype: string) => (prototype.includes(name) ? undefined : () => 0),
    });
    for (const name of ['inflateInit2_', 'inflate(', 'inflateReset', 'inflateEnd', 'memcpy']) {
      expect(openNativeInflate(without(name))).toBeUndefined();
    }
    expect(openNativeInflate({ errno: () => 0, lseek: () => -1, symbol: () => () => -6 })).toBeUndefined();
  });

  it('say so when zstd fails for another reason than the input', () => {
    const answering = (result: unknown) => ({
      lseek: () => -1,
      errno: () => 0,
      symbol: (prototype: string) => () => (prototype.includes('create') ? {} : result),
    });
    const error = (number: bigint) => openNativeZstd(answering(2n ** 64n - number));
    const bytes = new Uint8Array(100);
    expect(() => error(64n)?.encode(bytes, bytes, 1)).toThrow(/no memory/);
    expect(() => error(64n)?.decode(bytes, bytes)).toThrow(/no memory/);
    expect(() => error(42n)?.encode(bytes, bytes, 1)).toThrow(/error 42/);
    expect(error(20n)?.decode(bytes, bytes)).toBeUndefined();
    expect(error(70n)?.encode(bytes, bytes, 1)).toBeUndefined();
    const without = openNativeZstd({ errno: () => 0, lseek: () => -1, symbol: () => () => null });
    expect(() => without?.decode(bytes, bytes)).toThrow(/no memory/);
  });
});

describe('parseZstdFrame', () => {
  it('finds the end of every frame', () => {
    const options = fc.record({
      length: fc.integer({ min: 0, max: 300_000 }),
      kind: fc.constantFrom('noise', 'zeros', 'both'),
      level: fc.constantFrom(1, 3, 9),
      checksum: fc.constantFrom(0, 1),
      contentSize: fc.constantFrom(0, 1),
      behind: fc.nat(20),
    });
    fc.assert(
      fc.property(options, ({ length, kind, level, checksum, contentSize, behind }) => {
        const input =
          kind === 'zeros'
            ? Buffer.alloc(length)
            : kind === 'noise'
              ? noise(length, 1)
              : Buffer.concat([noise(length >> 1, 1), Buffer.alloc(length >> 1)]);
        const { ZSTD_c_compressionLevel, ZSTD_c_checksumFlag, ZSTD_c_contentSizeFlag } = constants;
        const params = { [ZSTD_c_compressionLevel]: level, [ZSTD_c_checksumFlag]: checksum, [ZSTD_c_contentSizeFlag]: contentSize };
        const frame = zstdCompressSync(input, { params });
        expect(parseZstdFrame(Buffer.concat([Buffer.alloc(3), frame, noise(behind, 2)]), 3)).toMatchObject({
          length: frame.length,
          skippable: false,
        });
        for (const cut of [1, 5, frame.length >> 1]) {
          if (cut < frame.length) expect(parseZstdFrame(frame.subarray(0, frame.length - cut), 0)).toHaveProperty('fault');
        }
      }),
      { numRuns: 60 },
    );
  });

  it('refuses a reserved block type', () => {
    const frame = Buffer.from(zstdCompressSync(Buffer.alloc(10)));
    const blockAt = 4 + 1 + 1;
    frame.writeUInt8((frame.at(blockAt) ?? 0) | 0b110, blockAt);
    expect(parseZstdFrame(frame, 0)).toHaveProperty('fault');
  });
});
