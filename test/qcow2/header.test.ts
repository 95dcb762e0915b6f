import { writeFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isChainkeepError } from '../../src/plumbing/errors.ts';
import { encodeFeatureNames, FEATURE_NAMES, parseFeatureNames } from '../../src/qcow2/feature-bits.ts';
import { encodeHeader, type HeaderFields, parseHeader, type Qcow2Header } from '../../src/qcow2/header.ts';
import {
  CHAINKEEP_EXTENSION,
  EXTENSION_BACKING_FORMAT,
  EXTENSION_DATA_FILE,
  EXTENSION_ENCRYPTION,
  EXTENSION_FEATURE_NAMES,
  encodeChainkeepExtension,
  encodeHeaderExtensions,
  parseChainkeepExtension,
  parseHeaderExtensions,
} from '../../src/qcow2/header-extensions.ts';
import { DEFAULT_LIMITS } from '../../src/qcow2/limits.ts';
import { CLUSTER, craftImage } from './crafted-image.ts';
import { qemuImg, scratchFolder } from './qemu-tools.ts';

const scratch = scratchFolder();

function parse(bytes: Uint8Array, fileSize = bytes.length): Qcow2Header {
  return parseHeader(bytes, fileSize, DEFAULT_LIMITS);
}

function refusal(bytes: Uint8Array, fileSize = bytes.length): { code: string; message: string } {
  try {
    parse(bytes, fileSize);
  } catch (error) {
    if (isChainkeepError(error)) return { code: error.code, message: error.message };
    throw error;
  }
  throw new Error('the header was accepted');
}

type Damage = (view: DataView, bytes: Buffer) => void;

/** A healthy header with extensions of these types behind it and nothing else. */
function withExtensions(...extensions: { type: number; data: Uint8Array }[]): Damage {
  return (_view, bytes) => {
    bytes.fill(0, 112, CLUSTER);
    bytes.set(encodeHeaderExtensions(extensions), 112);
  };
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

const BROKEN: Record<string, [Damage, RegExp]> = {
  'magic-missing': [(view) => view.setUint32(0, 0x514649fc), /magic/],
  'cluster-bits-8': [(view) => view.setUint32(20, 8), /cluster_bits is 8/],
  'cluster-bits-22': [(view) => view.setUint32(20, 22), /cluster_bits is 22/],
  'cluster-bits-63': [(view) => view.setUint32(20, 63), /cluster_bits is 63/],
  'cluster-bits-all-ones': [(view) => view.setUint32(20, 0xffff_ffff), /cluster_bits/],
  'backing-offset-behind-first-cluster': [(view) => view.setBigUint64(8, BigInt(CLUSTER + 1)), /backing name lies at/],
  'backing-offset-in-header': [(view) => view.setBigUint64(8, 104n), /backing name lies at 104/],
  'backing-offset-2-to-the-63': [(view) => view.setBigUint64(8, 1n << 63n), /backing name lies at/],
  'backing-length-zero': [(view) => view.setBigUint64(8, 2000n), /backing name is 0 bytes/],
  'backing-length-1024': [
    (view) => {
      view.setBigUint64(8, 2000n);
      view.setUint32(16, 1024);
    },
    /backing name is 1024 bytes/,
  ],
  'backing-name-over-end-of-cluster': [
    (view) => {
      view.setBigUint64(8, BigInt(CLUSTER - 4));
      view.setUint32(16, 5);
    },
    /allowed are 1 to 4/,
  ],
  'size-2-to-the-63': [(view) => view.setBigUint64(24, 1n << 63n), /more than 2\^63 - 1/],
  'l1-too-short-for-size': [(view) => view.setBigUint64(24, 512n * 1024n * 1024n + 1n), /needs 2/],
  'crypt-method-3': [(view) => view.setUint32(32, 3), /encryption method 3/],
  'l1-over-32-mib': [(view) => view.setUint32(36, 4_194_305), /limit is 33554432/],
  'l1-past-end-of-file': [(view) => view.setUint32(36, 100_000), /L1 table .* past the end/],
  'l1-offset-unaligned': [(view) => view.setBigUint64(40, 0x30200n), /L1 table lies at/],
  'l1-offset-zero': [(view) => view.setBigUint64(40, 0n), /L1 table has no place/],
  'l1-offset-2-to-the-63': [(view) => view.setBigUint64(40, 1n << 63n), /L1 table .* past the end/],
  'refcount-table-offset-zero': [(view) => view.setBigUint64(48, 0n), /refcount table has no place/],
  'refcount-table-unaligned': [(view) => view.setBigUint64(48, 0x10200n), /refcount table lies at/],
  'refcount-table-past-end-of-file': [(view) => view.setBigUint64(48, 1n << 40n), /refcount table .* past the end/],
  'refcount-table-without-clusters': [(view) => view.setUint32(56, 0), /refcount table has no clusters/],
  'refcount-table-over-8-mib': [(view) => view.setUint32(56, 129), /limit is 8388608/],
  'too-many-snapshots': [(view) => view.setUint32(60, 65_537), /65537 snapshots/],
  'snapshots-unaligned': [
    (view) => {
      view.setUint32(60, 1);
      view.setBigUint64(64, 0x30100n);
    },
    /snapshot table lies at/,
  ],
  'snapshots-offset-zero': [(view) => view.setUint32(60, 1), /snapshot table has no place/],
  'refcount-order-7': [(view) => view.setUint32(96, 7), /refcount_order is 7/],
  'header-length-103': [(view) => view.setUint32(100, 103), /header_length is 103/],
  'header-length-over-cluster': [(view) => view.setUint32(100, CLUSTER + 8), /header_length/],
  'compression-type-without-bit': [(view) => view.setUint8(104, 1), /contradict/],
  'compression-bit-without-type': [(view) => view.setBigUint64(72, 8n), /contradict/],
  'compression-bit-in-short-header': [
    (view) => {
      view.setBigUint64(72, 8n);
      view.setUint8(104, 1);
      view.setUint32(100, 104);
    },
    /contradict/,
  ],
  'raw-external-data-without-data-file': [(view) => view.setBigUint64(88, 2n), /no external data file/],
  'extension-longer-than-cluster': [(view) => view.setUint32(116, CLUSTER), /header extension/],
  'extension-twice': [
    withExtensions({ type: CHAINKEEP_EXTENSION, data: text('a:1') }, { type: CHAINKEEP_EXTENSION, data: text('a:1') }),
    /twice/,
  ],
  'extensions-without-end': [withExtensions(...Array.from({ length: 257 }, () => ({ type: 77, data: text('') }))), /more than 256/],
  'encryption-extension-without-encryption': [withExtensions({ type: EXTENSION_ENCRYPTION, data: new Uint8Array(16) }), /not encrypted/],
  'extension-cut-by-backing-name': [
    (view) => {
      view.setUint32(112, 77);
      view.setUint32(116, 0);
      view.setBigUint64(8, 124n);
      view.setUint32(16, 4);
      view.setUint32(120, 0x1234);
    },
    /middle of a record/,
  ],
};

const UNSUPPORTED: Record<string, [Damage, RegExp]> = {
  'version-1': [(view) => view.setUint32(4, 1), /version 1/],
  'version-4': [(view) => view.setUint32(4, 4), /version 4/],
  'encrypted-aes': [(view) => view.setUint32(32, 1), /encrypted/],
  'encrypted-luks': [(view) => view.setUint32(32, 2), /encrypted/],
  'external-data-file': [(view) => view.setBigUint64(72, 4n), /external data file/],
  'unknown-feature-63': [(view) => view.setBigUint64(72, 1n << 63n), /incompatible bit 63/],
  'size-over-limit': [(view) => view.setBigUint64(24, 2n ** 46n + 512n), /limit is 70368744177664/],
  'size-2-pib': [(view) => view.setBigUint64(24, 2n ** 51n), /virtual size/],
  'compression-type-2': [
    (view) => {
      view.setBigUint64(72, 8n);
      view.setUint8(104, 2);
    },
    /compression type 2/,
  ],
  'unknown-feature-with-a-name': [
    (view, bytes) => {
      view.setBigUint64(72, 1n << 9n);
      withExtensions({ type: EXTENSION_FEATURE_NAMES, data: encodeFeatureNames([{ kind: 'incompatible', bit: 9, name: 'time travel' }]) })(
        view,
        bytes,
      );
    },
    /"time travel" \(bit 9\)/,
  ],
};

describe('parseHeader refuses', () => {
  it.each(Object.entries(BROKEN))('%s', (_name, [damage, message]) => {
    const { bytes, view } = craftImage();
    parse(bytes);
    damage(view, bytes);
    const found = refusal(bytes);
    expect(found.message).toMatch(message);
    expect(found.code).toBe('QCOW2_INVALID');
  });

  it.each(Object.entries(UNSUPPORTED))('%s', (_name, [damage, message]) => {
    const { bytes, view } = craftImage();
    damage(view, bytes);
    const found = refusal(bytes);
    expect(found.message).toMatch(message);
    expect(found.code).toBe('QCOW2_UNSUPPORTED');
  });

  it('extended L2 entries with clusters below 16 KiB', () => {
    const bytes = Buffer.alloc(4096 * 5);
    const place = { l1Offset: 12_288, refcountTableOffset: 4096, refcountTableClusters: 1, l1Size: 1 };
    bytes.set(encodeHeader({ ...place, clusterBits: 12, size: 4096, refcountOrder: 4, compressionType: 'zlib' }));
    bytes.writeBigUInt64BE(16n, 72);
    expect(refusal(bytes).message).toMatch(/extended L2/);
  });

  it('a backing format of 16 bytes', () => {
    const { bytes } = craftImage({ backing: { name: 'a.qcow2', format: 'qcow2' } });
    const damaged = Buffer.from(bytes);
    withExtensions({ type: EXTENSION_BACKING_FORMAT, data: text('0123456789abcdef') })(craftImage().view, damaged);
    damaged.writeBigUInt64BE(1000n, 8);
    expect(refusal(damaged).message).toMatch(/backing format is 16 bytes/);
  });

  it.each([0, 3, 4, 71])('a file cut after %i bytes', (length) => {
    const { bytes } = craftImage();
    expect(refusal(bytes.subarray(0, length)).code).toBe('QCOW2_INVALID');
  });

  it('a version 3 header cut before its end', () => {
    expect(refusal(craftImage().bytes.subarray(0, 100)).message).toMatch(/cut off after 100/);
  });

  it('less than the first cluster as a mistake of the caller', () => {
    const { bytes } = craftImage();
    expect(() => parse(bytes.subarray(0, 4096), bytes.length)).toThrow(RangeError);
  });

  it('nothing that a limit was raised for', () => {
    const { bytes, view } = craftImage({ l1Size: 3 });
    view.setBigUint64(24, 1024n ** 3n);
    expect(() => parseHeader(bytes, bytes.length, { ...DEFAULT_LIMITS, virtualSize: 1024 ** 3 - 1 })).toThrow(/limit is/);
    expect(parseHeader(bytes, bytes.length, { ...DEFAULT_LIMITS, virtualSize: 1024 ** 3 }).size).toBe(1024 ** 3);
  });
});

describe('parseHeader accepts', () => {
  it.each([0, 1, 511, 513, 65_537])('a disk of %i bytes', (size) => {
    const { bytes, view } = craftImage();
    view.setBigUint64(24, BigInt(size));
    expect(parse(bytes).size).toBe(size);
  });

  it('dirty and corrupt images, and unknown compatible and autoclear bits, unchanged', () => {
    const { bytes, view } = craftImage();
    view.setBigUint64(72, 3n);
    view.setBigUint64(80, (1n << 63n) | 1n);
    view.setBigUint64(88, 1n << 62n);
    expect(parse(bytes)).toMatchObject({
      dirty: true,
      corrupt: true,
      lazyRefcounts: true,
      compatible: (1n << 63n) | 1n,
      autoclear: 1n << 62n,
    });
  });

  it('header fields it does not know, and keeps them', () => {
    const { bytes, view } = craftImage();
    bytes.fill(0, 112, 300);
    bytes.fill(7, 112, 120);
    view.setUint32(100, 120);
    expect([...parse(bytes).unknownFields]).toEqual([7, 7, 7, 7, 7, 7, 7, 7]);
  });

  it('a header length that is no multiple of 8 and a data file that is not used, and says so', () => {
    const { bytes, view } = craftImage();
    bytes.fill(0, 105, CLUSTER);
    bytes.set(encodeHeaderExtensions([{ type: EXTENSION_DATA_FILE, data: text('/etc/passwd') }]), 105);
    view.setUint32(100, 105);
    expect(parse(bytes).warnings).toEqual(['header_length 105 is not a multiple of 8', 'an external data file is named but not used']);
  });

  it('a backing name at any place behind the extensions', () => {
    const { bytes, view } = craftImage();
    view.setBigUint64(8, 2001n);
    view.setUint32(16, 11);
    bytes.set(text('json:{"a":1'), 2001);
    expect(parse(bytes).backing).toEqual({ name: 'json:{"a":1', format: undefined });
  });
});

const fieldsArbitrary = fc
  .record({
    clusterBits: fc.integer({ min: 12, max: 21 }),
    size: fc.integer({ min: 0, max: 2 ** 46 }),
    compressionType: fc.constantFrom('zlib' as const, 'zstd' as const),
    backing: fc.option(
      fc.record({
        name: fc.string({ minLength: 1, maxLength: 200, unit: 'binary' }),
        format: fc.constantFrom('qcow2' as const, 'raw' as const),
      }),
      { nil: undefined },
    ),
    extensions: fc.uniqueArray(fc.record({ type: fc.integer({ min: 1, max: 1000 }), data: fc.uint8Array({ maxLength: 40 }) }), {
      selector: ({ type }) => type,
      maxLength: 5,
    }),
  })
  .map(({ backing, ...rest }): HeaderFields => {
    const clusterSize = 2 ** rest.clusterBits;
    const l1Size = Math.ceil(rest.size / (clusterSize * (clusterSize / 8)));
    const place = { l1Size, l1Offset: clusterSize, refcountTableOffset: 64 * 2 ** 20, refcountTableClusters: 2, refcountOrder: 4 as const };
    return { ...rest, ...place, ...(backing && { backing }) };
  })
  .filter(({ l1Size }) => l1Size * 8 <= DEFAULT_LIMITS.l1Bytes);

describe('encodeHeader', () => {
  it('is read back as it was written', () => {
    fc.assert(
      fc.property(fieldsArbitrary, (fields) => {
        const area = encodeHeader(fields);
        const clusterSize = 2 ** fields.clusterBits;
        expect(area.length).toBeLessThan(clusterSize);
        const cluster = new Uint8Array(clusterSize);
        cluster.set(area);
        const { clusterBits, size, l1Size, l1Offset, refcountTableOffset, refcountTableClusters, compressionType, backing } = fields;
        const header = parseHeader(cluster, 2 ** 47, DEFAULT_LIMITS);
        expect(header).toMatchObject({ clusterBits, size, l1Size, l1Offset, refcountTableOffset, refcountTableClusters, compressionType });
        expect(header.backing).toEqual(backing && { name: Buffer.from(backing.name, 'utf8').toString('utf8'), format: backing.format });
        const ours = header.extensions.filter(({ type }) => type <= 1000).map(({ type, data }) => ({ type, data: [...data] }));
        expect(ours).toEqual((fields.extensions ?? []).map(({ type, data }) => ({ type, data: [...data] })));
        expect(header.incompatible).toBe(compressionType === 'zstd' ? 8n : 0n);
      }),
      { numRuns: 300 },
    );
  });

  it('refuses what does not fit the first cluster', () => {
    const base = { clusterBits: 9, size: 512, l1Size: 1, l1Offset: 512, refcountTableOffset: 1024, refcountTableClusters: 1 };
    const fields = { ...base, refcountOrder: 4 as const, compressionType: 'zlib' as const };
    expect(encodeHeader({ ...fields, backing: { name: 'x'.repeat(360), format: 'qcow2' } }).length).toBeLessThan(512);
    expect(() => encodeHeader({ ...fields, backing: { name: 'x'.repeat(400), format: 'qcow2' } })).toThrow(/does not fit/);
    expect(() => encodeHeader({ ...fields, clusterBits: 16, backing: { name: 'x'.repeat(1024), format: 'qcow2' } })).toThrow(
      /does not fit/,
    );
  });

  it('is what qemu-img reads', () => {
    const mark = encodeChainkeepExtension({ backupId: '20261122t133012345-4f7k2c9q', generation: 12 });
    const { bytes } = craftImage({ compressionType: 'zstd', backing: { name: 'parent.qcow2', format: 'qcow2' }, extensions: [mark] });
    writeFileSync(scratch('parent.qcow2'), craftImage().bytes);
    writeFileSync(scratch('child.qcow2'), bytes);
    const info: unknown = JSON.parse(qemuImg('info', '--output=json', '-f', 'qcow2', scratch('child.qcow2')));
    expect(info).toMatchObject({
      'virtual-size': 4 * 1024 ** 2,
      'backing-filename': 'parent.qcow2',
      'backing-filename-format': 'qcow2',
      'format-specific': { data: { 'compression-type': 'zstd', compat: '1.1' } },
    });
    expect(qemuImg('check', '-f', 'qcow2', scratch('child.qcow2'))).toMatch(/No errors/);
  });
});

describe('header extensions', () => {
  it('survive encode and parse', () => {
    const record = fc.record({ type: fc.integer({ min: 1, max: 2000 }), data: fc.uint8Array({ maxLength: 100 }) });
    fc.assert(
      fc.property(fc.array(record, { maxLength: 20 }), (extensions) => {
        const area = encodeHeaderExtensions(extensions);
        const found = parseHeaderExtensions(area, 0, area.length, DEFAULT_LIMITS);
        expect(found.map(({ type, data }) => [type, ...data])).toEqual(extensions.map(({ type, data }) => [type, ...data]));
      }),
    );
  });

  it('carry our mark', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[a-z0-9-]{1,64}$/), fc.integer({ min: 1, max: 1e14 }), (backupId, generation) => {
        const { type, data } = encodeChainkeepExtension({ backupId, generation });
        expect(type).toBe(0x434b4944);
        expect(parseChainkeepExtension(data)).toEqual({ backupId, generation });
      }),
    );
  });

  it.each(['', 'a', 'a:0', 'a:01', 'A:1', '../a:1', 'a:1:1', 'a:-1', `${'a'.repeat(65)}:1`])('refuse %j as our mark', (payload) => {
    expect(() => parseChainkeepExtension(text(payload))).toThrow(/Chainkeep header extension/);
  });

  it('name features, also where a name fills its field', () => {
    const full = { kind: 'autoclear' as const, bit: 40, name: 'x'.repeat(46) };
    expect(parseFeatureNames(encodeFeatureNames([...FEATURE_NAMES, full]))).toEqual([...FEATURE_NAMES, full]);
    const broken = Uint8Array.from([...encodeFeatureNames([full]), ...new Uint8Array(20)]);
    broken[0] = 3;
    expect(parseFeatureNames(broken)).toEqual([]);
  });
});
