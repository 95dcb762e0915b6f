// docs/format against real repositories: a reader made from the pages alone reads what the program wrote.

import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { runChainkeep, temporaryFolder } from '../cli/run-chainkeep.ts';
import { readFencedBlocks } from './fenced-blocks.ts';
import { crc32c, readChain, readDigests, readDisk, readSealed } from './format-reader.ts';

interface Change {
  readonly size?: number;
  /** Offset → bytes. */
  readonly write?: readonly (readonly [number, Uint8Array])[];
}

function changeDisk(path: string, change: Change): void {
  const disk = openSync(path, constants.O_RDWR | constants.O_CREAT);
  if (change.size !== undefined) ftruncateSync(disk, change.size);
  for (const [offset, bytes] of change.write ?? []) writeSync(disk, bytes, 0, bytes.length, offset);
  closeSync(disk);
}

/** Half of it compresses, half does not. */
const mixed = (length: number): Buffer => Buffer.concat([Buffer.alloc(length / 2, 'chainkeep'), randomBytes(length / 2)]);

interface Story {
  readonly options: readonly string[];
  readonly steps: readonly (Change & { readonly type: string })[];
}

const MIB = 1 << 20;
const STORIES: Readonly<Record<string, Story>> = {
  'compressed, three ranges, an odd size, growth, zeros over data': {
    options: ['--cluster-size', '4k'],
    steps: [
      {
        type: 'full',
        size: 80 * MIB - 700,
        write: [
          [0, mixed(MIB)],
          [33 * MIB, mixed(MIB)],
          [80 * MIB - 900, mixed(200)],
        ],
      },
      {
        type: 'incremental',
        write: [
          [4096, Buffer.alloc(8192)],
          [MIB / 2, randomBytes(5000)],
        ],
      },
      { type: 'incremental', size: 97 * MIB + 1, write: [[97 * MIB, Buffer.of(7)]] },
      { type: 'differential', write: [[4096, Buffer.alloc(8192, 'chainkeep')]] },
      { type: 'incremental' },
    ],
  },
  'not compressed': {
    options: ['--compression', 'none'],
    steps: [
      { type: 'full', size: 40 * MIB, write: [[10 * MIB, mixed(3 * MIB)]] },
      {
        type: 'incremental',
        write: [
          [11 * MIB, Buffer.alloc(70_000)],
          [39 * MIB, mixed(100)],
        ],
      },
    ],
  },
  'more ranges than one page of the index holds, in the smallest clusters': {
    options: ['--cluster-size', '512'],
    steps: [{ type: 'full', size: 1200 * MIB, write: Array.from({ length: 290 }, (_, range) => [range * 4 * MIB + 512, mixed(1024)]) }],
  },
  'an empty disk and one of a single byte': {
    options: [],
    steps: [
      { type: 'full', size: 0 },
      { type: 'incremental', size: 1, write: [[0, Buffer.of(1)]] },
    ],
  },
};

describe('a reader written from docs/format', { timeout: 120_000 }, () => {
  it.each(Object.entries(STORIES))('reads every restore point: %s', async (_name, { options, steps }) => {
    const folder = temporaryFolder();
    const disk = join(folder, 'disk.img');
    const ids: string[] = [];
    for (const { type, ...change } of steps) {
      changeDisk(disk, change);
      const args = ['backup', disk, '--vm', 'v', '--type', type, ...options, '--json', '--home', folder];
      const run = await runChainkeep(args);
      expect(run, run.stderr).toMatchObject({ code: 0 });
      const answer: { backup_id: string; backup_type: string } = JSON.parse(run.stdout);
      expect(answer.backup_type).toBe(type);
      ids.push(answer.backup_id);
      const chain = readChain(findPlace(folder), answer.backup_id);
      expectSame(readDisk(chain), chain[0]?.clusterSize ?? 0, disk);
    }
    const place = findPlace(folder);
    expect(ids).toEqual(ids.toSorted());
    expect(readdirSync(place).toSorted()).toEqual(ids.flatMap((id) => [`${id}.1.digests`, `${id}.json`, `${id}.qcow2`]));
  });

  it('reads the examples on the pages', () => {
    const file = join(temporaryFolder(), 'example.json');
    const [marker, sidecar] = readFencedBlocks('docs/format/repository.md').flatMap(({ text }) => {
      if (!text.startsWith('{')) return [];
      writeFileSync(file, text);
      return [readSealed(file)];
    });
    expect(marker).toHaveProperty('owner');
    const dump = readFencedBlocks('docs/format/digests.md').findLast(({ text }) => text.startsWith('00000000: '))?.text ?? '';
    const bytes = Buffer.from(
      [...dump.matchAll(/^[0-9a-f]{8}: ((?:[0-9a-f]{4} )+)/gm)].map(([, hex = '']) => hex.replaceAll(' ', '')).join(''),
      'hex',
    );
    const root = /its root is `([0-9a-f]{64})`/.exec(readFileSync('docs/format/digests.md', 'utf8'))?.[1] ?? '';
    const contentRoot = String(sidecar?.parent_content_root);
    const { records } = readDigests(bytes, { size: 200 * MIB, clusterSize: 65_536, generation: 1, root, contentRoot });
    expect([...records].map(([cluster, { storedLength }]) => [cluster, storedLength])).toEqual([
      [0, 28],
      [128, 24],
    ]);
    expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
  });
});

/** The folder of the one disk in the default repository, whose marker is read on the way. */
function findPlace(home: string): string {
  const repository = join(home, 'repositories/default');
  expect(readSealed(join(repository, 'chainkeep-repository.json'))).toMatchObject({ format: 1, immutability: null });
  const [vm = ''] = readdirSync(join(repository, 'vms'));
  return join(repository, 'vms', vm, 'disk-0');
}

/** The clusters hold the disk, and what they leave out is zero. */
function expectSame(clusters: ReadonlyMap<number, Buffer>, clusterSize: number, path: string): void {
  const disk = openSync(path, 'r');
  const { size } = fstatSync(disk);
  const found = Buffer.alloc(MIB);
  for (let offset = 0; offset < size; offset += MIB) {
    const length = readSync(disk, found, 0, MIB, offset);
    const expected = Buffer.alloc(MIB);
    for (let at = 0; at < MIB; at += clusterSize) {
      const bytes = clusters.get((offset + at) / clusterSize);
      if (bytes) expected.set(bytes, at);
    }
    found.fill(0, length);
    if (!found.equals(expected)) expect.fail(`the disk is another one in the MiB at ${offset}`);
  }
  closeSync(disk);
  expect(Math.max(-1, ...clusters.keys())).toBeLessThan(Math.ceil(size / clusterSize));
}
