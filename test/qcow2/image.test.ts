import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openRawReader } from '../../src/disk/raw-file-reader.ts';
import { openFileSource } from '../../src/plumbing/file-source.ts';
import { checkImage } from '../../src/qcow2/checker.ts';
import { mapImage } from '../../src/qcow2/image-map.ts';
import { createTableCache } from '../../src/qcow2/table-cache.ts';
import { convertToRaw, noise, numbers, qemuImg, qemuIo, scratchFolder } from './qemu-tools.ts';
import { expectContent, expectSameMap, expectSameReports, listExtents, openImage, readAll } from './real-image.ts';

const scratch = scratchFolder();

interface Kind {
  readonly cluster: number;
  readonly options: readonly string[];
  readonly extended?: boolean;
}

const CLUSTER_SIZES = [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072, 262_144, 524_288, 1_048_576, 2_097_152];

const KINDS: Kind[] = [
  ...CLUSTER_SIZES.map((cluster) => ({
    cluster,
    options: ['compat=1.1', cluster % 4 === 0 && cluster > 8192 ? 'compression_type=zstd' : 'compression_type=zlib'],
  })),
  ...[512, 65_536, 2_097_152].map((cluster) => ({ cluster, options: ['compat=0.10'] })),
  ...[16_384, 65_536, 2_097_152].map((cluster) => ({ cluster, options: ['extended_l2=on', 'compression_type=zstd'], extended: true })),
  ...[1, 2, 4, 8, 32, 64].map((bits) => ({ cluster: 4096, options: [`refcount_bits=${bits}`] })),
  { cluster: 65_536, options: ['lazy_refcounts=on'] },
  { cluster: 65_536, options: ['preallocation=metadata'] },
];

/** Compressed writes, then writes, zeros and discards over and beside them, at places that a seed decides. */
function scribble(cluster: number, size: number, seed: number, count: number): string[] {
  const next = numbers(seed);
  const clusters = Math.floor(size / cluster);
  // qemu writes a compressed cluster only where there is none yet.
  const compressed = new Set(Array.from({ length: Math.ceil(count / 3) }, () => next(clusters)));
  const first = [...compressed].map((number) => `write -c -P ${(number % 250) + 1} ${number * cluster} ${cluster}`);
  const others = Array.from({ length: count }, (_, number) => {
    const offset = next(clusters) * cluster;
    const some = next(Math.min(cluster, size - offset) / 512) * 512 + 512;
    switch (next(5)) {
      case 0:
        return `write -P ${(number % 250) + 1} ${offset} ${Math.min(3 * cluster, size - offset)}`;
      case 1:
        return `write -z ${offset} ${Math.min(2 * cluster, size - offset)}`;
      case 2:
        return `discard ${offset} ${cluster}`;
      case 3:
        return `write -z -u ${offset} ${some}`;
      default:
        return `write -P ${(number % 250) + 1} ${offset + Math.min(some, cluster - 512)} 512`;
    }
  });
  return [...first, ...others.slice(first.length / 2)];
}

describe('images that qemu made', () => {
  it.each(KINDS.map((kind) => ({ ...kind, name: `${kind.cluster} ${kind.options.join(' ')}` })))(
    '$name',
    async ({ cluster, options, name }) => {
      const path = scratch(`${name.replaceAll(/[ =]/g, '-')}.qcow2`);
      const size = (cluster < 524_288 ? 23 : 6) * cluster + Math.max(512, Math.floor(cluster / 1024) * 512);
      const preallocated = options.includes('preallocation=metadata');
      qemuImg('create', '-q', '-f', 'qcow2', '-o', [...options, `cluster_size=${cluster}`].join(','), path, String(size));
      const commands = scribble(cluster, size, cluster + name.length, 40);
      qemuIo(path, ...(preallocated ? commands.filter((command) => !command.startsWith('write -c')) : commands));
      const image = await openImage(path);
      await expectContent(image, convertToRaw(path));
      if (!preallocated) await expectSameMap(path, [image]);
      await expectSameReports(path);
      await image.close();
      rmSync(path);
    },
  );

  it.each([
    ['zlib', 65_536],
    ['zstd', 65_536],
    ['zstd', 512],
    ['zlib', 2_097_152],
  ])('compressed as a whole: %s, clusters of %i bytes', async (compression, cluster) => {
    const size = 5 * cluster + 1536 * Math.ceil(cluster / 4096);
    const bytes = Buffer.concat([
      noise(cluster, 1),
      Buffer.alloc(cluster, 'chain'),
      noise(cluster >> 1, 2),
      Buffer.alloc(size - 2 * cluster - (cluster >> 1), 9),
    ]);
    writeFileSync(scratch('whole.raw'), bytes);
    const path = scratch(`whole-${compression}-${cluster}.qcow2`);
    const options = `compression_type=${compression},cluster_size=${cluster}`;
    qemuImg('convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', options, scratch('whole.raw'), path);
    const image = await openImage(path);
    await expectContent(image, convertToRaw(path));
    expect((await readAll(image)).subarray(0, bytes.length).equals(bytes)).toBe(true);
    const extents = await listExtents(image);
    expect(extents.some(({ stored }) => stored?.compression === compression && stored.expandedLength === cluster)).toBe(true);
    await expectSameMap(path, [image]);
    await expectSameReports(path);
    await image.close();
  });

  it.each([512, 1024, 65_024, 66_048])('of a disk of %i bytes', async (size) => {
    writeFileSync(scratch('odd.raw'), noise(size, size));
    for (const way of [[], ['-c']]) {
      qemuImg('convert', ...way, '-f', 'raw', '-O', 'qcow2', scratch('odd.raw'), scratch('odd.qcow2'));
      const image = await openImage(scratch('odd.qcow2'));
      await expectContent(image, readFileSync(scratch('odd.raw')));
      await expectSameReports(scratch('odd.qcow2'));
      await image.close();
    }
  });

  it('of a disk of no bytes', async () => {
    qemuImg('create', '-q', '-f', 'qcow2', scratch('empty.qcow2'), '0');
    const image = await openImage(scratch('empty.qcow2'));
    expect(image.size).toBe(0);
    expect(await listExtents(image)).toEqual([]);
    await image.read(new Uint8Array(0), 0);
    await expectSameReports(scratch('empty.qcow2'));
    await image.close();
  });

  it('of a disk of 16 TiB with a few clusters', async () => {
    const path = scratch('vast.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', path, '16T');
    qemuIo(path, 'write -P 1 0 4k', 'write -P 2 9T 1M', `write -P 3 ${16 * 2 ** 40 - 512} 512`);
    const image = await openImage(path);
    await expectSameMap(path, [image]);
    const data = (await listExtents(image)).filter(({ kind }) => kind === 'data');
    expect(data.map(({ offset, length }) => [offset, length])).toEqual([
      [0, 65_536],
      [9 * 2 ** 40, 1024 ** 2],
      [16 * 2 ** 40 - 65_536, 65_536],
    ]);
    const piece = Buffer.alloc(2048);
    await image.read(piece, 16 * 2 ** 40 - 2048);
    expect(piece.equals(Buffer.concat([Buffer.alloc(1536), Buffer.alloc(512, 3)]))).toBe(true);
    await image.close();
  });
});

describe('preallocated zeros', () => {
  it('read as zeros, whatever lies in their host cluster', async () => {
    const path = scratch('zeros.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', path, '1M');
    qemuIo(path, 'write -P 7 0 1M', 'write -z 64k 128k');
    const image = await openImage(path);
    await expectContent(image, convertToRaw(path));
    await expectSameMap(path, [image]);
    const mapping = await Array.fromAsync(image.mapping({ offset: 65_536, length: 65_536 }));
    expect(mapping).toMatchObject([{ kind: 'zero' }]);
    expect(mapping[0]?.hostOffset).toBeGreaterThan(0);
    expect((await listExtents(image))[1]).toEqual({ offset: 65_536, length: 131_072, kind: 'zero' });
    await expectSameReports(path);
    await image.close();
  });
});

describe('chains', () => {
  it('of four layers with different cluster sizes, and disks that grew', async () => {
    writeFileSync(scratch('base.raw'), Buffer.concat([noise(700_000, 3), Buffer.alloc(300_032)]));
    const create = (name: string, backing: string, format: string, size: number, options: string): string => {
      qemuImg('create', '-q', '-f', 'qcow2', '-b', backing, '-F', format, '-o', options, scratch(name), String(size));
      return scratch(name);
    };
    const first = create('first.qcow2', 'base.raw', 'raw', 1_200_128, 'cluster_size=4096');
    qemuIo(first, ...scribble(4096, 1_200_128, 5, 30));
    const second = create('second.qcow2', 'first.qcow2', 'qcow2', 900_096, 'cluster_size=65536,compression_type=zstd');
    qemuIo(second, ...scribble(65_536, 900_096, 6, 6));
    const third = create('third.qcow2', 'second.qcow2', 'qcow2', 1_500_160, 'cluster_size=16384,extended_l2=on');
    qemuIo(third, ...scribble(16_384, 1_500_160, 7, 20));

    const cache = createTableCache(65_536);
    const raw = openRawReader(await openFileSource(scratch('base.raw')));
    const layers = [
      await openImage(third, { layer: true, cache }),
      await openImage(second, { layer: true, cache }),
      await openImage(first, { layer: true, cache }),
      raw,
    ];
    const open = await openImage(first, { backing: openRawReader(await openFileSource(scratch('base.raw'))) });
    const disk = await openImage(third, { backing: await openImage(second, { backing: open, expectedBackingName: 'first.qcow2' }) });
    await expectContent(disk, convertToRaw(third));
    // The holes of a raw file have an offset for qemu; for us they are zeros without a place.
    const judged = JSON.parse(qemuImg('map', '--output=json', third)).map((entry: Record<string, unknown>) =>
      entry.depth === 3 && entry.zero ? { ...entry, offset: undefined } : entry,
    );
    const found = await Array.fromAsync(mapImage(layers));
    expect(found.map(({ compressed, ...entry }) => entry)).toEqual(judged);
    for (const layer of layers) await layer.close();
    await disk.close();
    await expectSameReports(third);
  });
});

describe('snapshots and bitmaps', () => {
  it('do not hinder reading, and are told', async () => {
    const path = scratch('extras.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', path, '3M');
    qemuIo(path, 'write -P 1 0 1M');
    qemuImg('snapshot', '-c', 'before "the" change', path);
    qemuIo(path, 'write -P 2 512k 1M', 'write -c -P 3 2M 64k');
    qemuImg('snapshot', '-c', 'ünïcode', path);
    qemuImg('bitmap', '--add', path, 'dirty');
    qemuImg('bitmap', '--add', '--disable', '-g', '512', path, 'fine');
    qemuIo(path, 'write -P 4 128k 64k');
    const image = await openImage(path);
    await expectContent(image, convertToRaw(path));
    expect(image.warnings).toEqual([
      'the image has 2 internal snapshots; only its active state is read',
      'the image has bitmaps; they are not needed to read it',
    ]);
    await image.close();
    await expectSameReports(path);
  });

  it('of version 2 are checked too', async () => {
    const path = scratch('extras-v2.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', '-o', 'compat=0.10,cluster_size=1k', path, '1M');
    qemuIo(path, 'write -P 1 0 300k');
    for (let number = 0; number < 5; number += 1) {
      qemuImg('snapshot', '-c', `number ${number}`, path);
      qemuIo(path, `write -P ${number + 2} ${number * 50}k 80k`);
    }
    await expectSameReports(path);
  });
});

describe('a check in several passes', () => {
  it('says the same as in one', async () => {
    const path = scratch('passes.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=512', path, '4M');
    qemuIo(path, ...scribble(512, 4 * 1024 ** 2, 11, 60), 'write -P 9 1M 1M');
    qemuImg('snapshot', '-c', 'one', path);
    qemuIo(path, 'write -P 8 1M 500k');
    const source = await openFileSource(path);
    const whole = await checkImage(source);
    expect(whole).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
    expect(await checkImage(source, { windowClusters: 77 })).toEqual(whole);
    await source.close();
  });
});
