// Healthy images of known content, to be damaged: most are made by qemu-img and qemu-io, some by our own writer; each differs from the
// others in what a reader has to look at. The judge must read all of them as qemu-img does before it may judge anything.

import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createQcow2File } from '../../src/qcow2/writer.ts';
import type { Random } from '../random.ts';
import { judgeCluster, judgeHeader } from './judge.ts';

const TOOL_LIMIT_MS = 20_000;

interface Recipe {
  readonly name: string;
  /** Bytes of the disk. */
  readonly size: number;
  /** As `qemu-img create -o` takes it; `ours` is our own writer with clusters of 64 KiB. */
  readonly options: string | 'ours';
  readonly compressed?: boolean;
  /** Commands of qemu-io, after the first content is in the image. */
  readonly writes?: readonly string[];
  /** Arguments of qemu-img before and after those, the image's path at the end. */
  readonly before?: readonly (readonly string[])[];
  readonly after?: readonly (readonly string[])[];
}

const RECIPES: readonly Recipe[] = [
  { name: 'v2-512-zlib', size: 24_064, options: 'compat=0.10,cluster_size=512', compressed: true, writes: ['write -P 7 1000 700'] },
  {
    name: 'v3-64k-zlib',
    size: 1_310_720,
    options: 'cluster_size=65536',
    compressed: true,
    writes: ['write -z 65536 131072', 'write -P 9 300000 5000', 'discard 655360 65536'],
  },
  { name: 'v3-4k-zstd-refcount-1', size: 100_864, options: 'cluster_size=4096,compression_type=zstd,refcount_bits=1', compressed: true },
  {
    name: 'v3-1k-snapshots-refcount-64',
    size: 40_960,
    options: 'cluster_size=1024,refcount_bits=64',
    before: [['snapshot', '-c', 'first']],
    writes: ['write -P 3 2048 9000', 'write -z 20480 2048'],
    after: [['snapshot', '-c', 'second']],
  },
  {
    name: 'v3-4k-bitmaps',
    size: 131_072,
    options: 'cluster_size=4096',
    before: [['bitmap', '--add', '-g', '4096']],
    writes: ['write -P 5 8192 20000', 'write -z -u 65536 8192'],
  },
  {
    name: 'extended-16k-zlib',
    size: 409_600,
    options: 'cluster_size=16384,extended_l2=on',
    compressed: true,
    writes: ['write -P 4 16384 512', 'write -z 33792 1024', 'write -P 8 100000 40000', 'discard 131072 2048'],
  },
  {
    name: 'extended-64k-zstd',
    size: 786_944,
    options: 'cluster_size=65536,extended_l2=on,compression_type=zstd,lazy_refcounts=on',
    compressed: true,
    writes: ['write -P 4 65536 2048', 'write -z 133120 4096'],
  },
  { name: 'v3-2m-zstd', size: 2_498_048, options: 'cluster_size=2097152,compression_type=zstd', compressed: true },
  { name: 'v3-512-many-tables', size: 163_840, options: 'cluster_size=512,refcount_bits=8', writes: ['write -z 40960 4096'] },
  { name: 'ours-64k-zstd', size: 1_179_648, options: 'ours', compressed: true },
  { name: 'ours-64k-plain', size: 720_896, options: 'ours' },
];

/** A healthy image and what its disk reads as. */
export interface BaseImage {
  readonly name: string;
  readonly bytes: Buffer;
  readonly truth: Buffer;
}

/** Makes all of them in `folder`, for `loadBaseImages` in any process. Throws where the judge does not read one as qemu-img does. */
export async function makeBaseImages(folder: string, random: Random): Promise<void> {
  for (const recipe of RECIPES) {
    const path = join(folder, `${recipe.name}.qcow2`);
    const raw = join(folder, `${recipe.name}.raw`);
    writeFileSync(raw, content(recipe.size, random));
    if (recipe.options === 'ours') await writeOurs(path, readFileSync(raw), recipe.compressed === true);
    else writeByQemu(path, raw, recipe, recipe.options);
    rmSync(raw);
    execFileSync('qemu-img', ['convert', '-t', 'unsafe', '-f', 'qcow2', '-O', 'raw', path, raw], { timeout: TOOL_LIMIT_MS });
  }
  for (const base of loadBaseImages(folder)) checkJudge(base);
}

export function loadBaseImages(folder: string): BaseImage[] {
  return RECIPES.map(({ name }) => ({
    name,
    bytes: readFileSync(join(folder, `${name}.qcow2`)),
    truth: readFileSync(join(folder, `${name}.raw`)),
  }));
}

/** Pieces of noise, of text, and of nothing, so that some clusters compress well, some badly, and some are not there. */
function content(size: number, random: Random): Buffer {
  const bytes = Buffer.alloc(size);
  const most = Math.max(1024, Math.floor(size / 12));
  for (let at = 0; at < size; ) {
    const length = Math.min(size - at, random.between(300, most));
    const kind = random.below(4);
    if (kind === 0) random.bytes(length).copy(bytes, at);
    else if (kind < 3) bytes.fill(`${random.below(1000)} bottles of beer on the wall, `, at, at + length);
    at += length;
  }
  return bytes;
}

function writeByQemu(path: string, raw: string, { compressed, writes = [], before = [], after = [] }: Recipe, options: string): void {
  const run = (tool: string, ...args: readonly string[]) => execFileSync(tool, args, { timeout: TOOL_LIMIT_MS, stdio: 'pipe' });
  run('qemu-img', 'convert', '-t', 'unsafe', ...(compressed ? ['-c'] : []), '-f', 'raw', '-O', 'qcow2', '-o', options, raw, path);
  const extra = ([verb = '', ...args]: readonly string[]) =>
    run('qemu-img', verb, ...args, ...(verb === 'bitmap' ? ['-f', 'qcow2', path, 'dirty'] : [path]));
  before.forEach(extra);
  if (writes.length > 0) run('qemu-io', '-t', 'unsafe', '-f', 'qcow2', ...writes.flatMap((command) => ['-c', command]), path);
  after.forEach(extra);
}

async function writeOurs(path: string, disk: Buffer, compressed: boolean): Promise<void> {
  const writer = await createQcow2File(path, { size: disk.length, compression: compressed ? 'zstd' : 'none' });
  await writer.write(disk, 0);
  await writer.finish();
}

function checkJudge({ name, bytes, truth }: BaseImage): void {
  const file = { bytes, length: bytes.length };
  const said = judgeHeader(file);
  if (typeof said === 'string') throw new Error(`the judge refuses the healthy image ${name}: ${said}`);
  if (said.size !== truth.length) throw new Error(`the judge sees ${said.size} bytes in ${name}, qemu-img ${truth.length}`);
  for (let cluster = 0; cluster * said.clusterSize < said.size; cluster++) {
    const verdict = judgeCluster(file, said, cluster, true);
    const at = cluster * said.clusterSize;
    const ok = 'bytes' in verdict && !verdict.mayRefuse && truth.subarray(at, at + said.clusterSize).equals(verdict.bytes);
    if (!ok)
      throw new Error(`the judge does not read ${name} at ${at} as qemu-img does: ${'refuse' in verdict ? verdict.refuse : 'other bytes'}`);
  }
}
