// A reader of repositories written from docs/format alone: it proves that the pages suffice and say what is on disk.
// It must import nothing from src, and name nothing that the pages do not.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { createBLAKE3 } from 'hash-wasm';

const hasher = await createBLAKE3();
const blake3 = (...parts: readonly Uint8Array[]): Buffer => {
  hasher.init();
  for (const part of parts) hasher.update(part);
  return Buffer.from(hasher.digest('binary'));
};
const u64 = (bytes: Buffer, at: number): number => Number(bytes.readBigUInt64BE(at));
const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);

/** docs/format/repository.md, "The seal of a JSON file". */
export function readSealed(path: string): Record<string, unknown> {
  const text = readFileSync(path, 'utf8');
  const seal = /,\n {2}"checksum": "blake3:([0-9a-f]{64})"\n\}\n$/.exec(text);
  assert(seal, `${path} has no seal`);
  const covered = text.slice(0, seal.index);
  assert.equal(blake3(Buffer.from(covered)).toString('hex'), seal[1]);
  return JSON.parse(`${covered}\n}`);
}

interface ClusterRecord {
  readonly kind: number;
  readonly compressed: boolean;
  readonly storedLength: number;
  readonly crc: number;
  readonly digest: Buffer;
}

interface Backup {
  readonly id: string;
  readonly parent: string | null;
  readonly size: number;
  readonly clusterSize: number;
  readonly contentRoot: string;
  /** Guest cluster → what the digests file says. */
  readonly records: ReadonlyMap<number, ClusterRecord>;
  readonly rangeHashes: Buffer;
  /** Guest cluster → its bytes, or undefined where the image says zero. */
  readonly clusters: ReadonlyMap<number, Buffer | undefined>;
}

/** One backup with everything the pages let a reader check, checked. `folder` is that of the disk. */
export function readBackup(folder: string, id: string): Backup {
  const sidecar = readSealed(join(folder, `${id}.json`));
  const { format, backup_id, total_bytes: size, size_bytes, content_root: contentRoot, parent_backup_id: parent } = sidecar;
  const { qcow2, digests } = sidecar;
  assert(typeof size === 'number' && typeof contentRoot === 'string' && (parent === null || typeof parent === 'string'));
  assert.equal(format, 1);
  assert.equal(backup_id, id);
  assert(hasNumbers(qcow2, ['cluster_size', 'generation', 'virtual_size']) && hasTexts(digests, ['name', 'root', 'structure']));
  assert.equal(digests.name, `${id}.${qcow2.generation}.digests`);
  const disk = { size, clusterSize: qcow2.cluster_size, generation: qcow2.generation };
  const { records, rangeHashes } = readDigests(readFileSync(join(folder, digests.name)), { ...disk, root: digests.root, contentRoot });
  const image = readFileSync(join(folder, `${id}.qcow2`));
  assert.equal(image.length, size_bytes);
  const names = { mark: `${id}:${qcow2.generation}`, backing: parent === null ? null : `${parent}.qcow2` };
  const clusters = readImage(image, { ...names, virtualSize: qcow2.virtual_size, structure: digests.structure }, records);
  return { id, parent, size, clusterSize: qcow2.cluster_size, contentRoot, records, rangeHashes, clusters };
}

/** The backup, its parent, and so on; each fits on the next by its content root, which is computed again from the records of the chain. */
export function readChain(folder: string, id: string): Backup[] {
  const chain: Backup[] = [];
  for (let next: string | null = id; next !== null; next = chain.at(-1)?.parent ?? null) chain.push(readBackup(folder, next));
  for (const at of chain) {
    if (at.parent === null) continue;
    assert.equal(readSealed(join(folder, `${at.id}.json`)).parent_content_root, readSealed(join(folder, `${at.parent}.json`)).content_root);
  }
  chain.forEach((backup, index) => {
    const below = chain.slice(index);
    const ranges = Math.ceil(backup.size / (8192 * backup.clusterSize));
    const hashes = Array.from({ length: ranges }, (_, range) => rangeHash(below, range));
    assert(Buffer.concat(hashes).equals(backup.rangeHashes), `range hashes of ${backup.id}`);
  });
  return chain;
}

function rangeHash(chain: readonly Backup[], range: number): Buffer {
  const leaves = Buffer.alloc(8192 * 32);
  for (let cluster = 0; cluster < 8192; cluster++) {
    const record = newest(chain, range * 8192 + cluster, ({ records }) => records);
    if (record?.kind === 1) leaves.set(record.digest, cluster * 32);
  }
  return isZero(leaves) ? Buffer.alloc(32) : blake3(leaves);
}

function newest<T>(chain: readonly Backup[], cluster: number, of: (backup: Backup) => ReadonlyMap<number, T>): T | undefined {
  const backup = chain.find((candidate) => of(candidate).has(cluster));
  return backup && of(backup).get(cluster);
}

/** What the chain reads as: guest cluster → bytes; every other cluster reads as zeros. */
export function readDisk(chain: readonly Backup[]): Map<number, Buffer> {
  const disk = new Map<number, Buffer>();
  for (const cluster of new Set(chain.flatMap(({ clusters }) => [...clusters.keys()]))) {
    const bytes = newest(chain, cluster, ({ clusters }) => clusters);
    if (bytes) disk.set(cluster, bytes);
  }
  return disk;
}

interface DigestsBinding {
  readonly size: number;
  readonly clusterSize: number;
  readonly generation: number;
  readonly root: string;
  readonly contentRoot: string;
}

/** docs/format/digests.md. */
export function readDigests(file: Buffer, binding: DigestsBinding): { records: Map<number, ClusterRecord>; rangeHashes: Buffer } {
  const header = file.subarray(0, 64);
  const trailer = file.subarray(file.length - 96);
  assert.equal(header.toString('latin1', 0, 8), 'CKDIGEST');
  assert.deepEqual(
    [8, 12, 20].map((at) => header.readUInt32BE(at)),
    [1, 1, 8192],
  );
  const { clusterSize, size, generation } = binding;
  assert.deepEqual([2 ** header.readUInt32BE(16), u64(header, 24), u64(header, 32)], [clusterSize, size, generation]);
  assert(isZero(header.subarray(40)) && isZero(trailer.subarray(80)));
  assert.equal(trailer.toString('latin1', 0, 8), 'CKDIGEND');
  const [sections = 0, recordCount = 0, ranges = 0, pages = 0, directory = 0] = [8, 16, 24, 32, 40].map((at) => u64(trailer, at));
  const rangeCount = Math.ceil(binding.size / (8192 * binding.clusterSize));
  assert.deepEqual([ranges, pages, directory], [64 + 44 * recordCount, ranges + 32 * rangeCount, pages + 48 * sections]);
  assert.equal(file.length, directory + 36 * Math.ceil(sections / 256) + 96);
  assert.equal(blake3(header, file.subarray(directory, file.length - 96), trailer).toString('hex'), binding.root);

  const rangeHashes = file.subarray(ranges, pages);
  const numbers = Buffer.alloc(16);
  numbers.writeBigUInt64BE(BigInt(binding.clusterSize), 0);
  numbers.writeBigUInt64BE(BigInt(binding.size), 8);
  const contentRoot = blake3(Buffer.from('chainkeep content root 1\n'), numbers, rangeHashes);
  assert.equal(contentRoot.toString('hex'), binding.contentRoot);
  assert(contentRoot.equals(trailer.subarray(48, 80)));

  const records = new Map<number, ClusterRecord>();
  for (let section = 0; section < sections; section++) readSection(file, { pages, directory, sections, section }, records);
  assert.equal(records.size, recordCount);
  return { records, rangeHashes };
}

interface SectionPlace {
  readonly pages: number;
  readonly directory: number;
  readonly sections: number;
  readonly section: number;
}

function readSection(file: Buffer, { pages, directory, sections, section }: SectionPlace, records: Map<number, ClusterRecord>): void {
  const first = section - (section % 256);
  const page = file.subarray(pages + 48 * first, pages + 48 * Math.min(sections, first + 256));
  const inDirectory = directory + 36 * (first / 256);
  assert.equal(file.readUInt32BE(inDirectory), page.readUInt32BE(0));
  assert(blake3(page).equals(file.subarray(inDirectory + 4, inDirectory + 36)), `page of section ${section}`);
  const entry = page.subarray(48 * (section % 256), 48 * (section % 256) + 48);
  const offset = u64(entry, 8);
  const bytes = file.subarray(offset, offset + 44 * entry.readUInt32BE(4));
  assert(blake3(bytes).equals(entry.subarray(16)), `section ${section}`);
  for (let at = 0; at < bytes.length; at += 44) {
    const kind = bytes.readUInt8(at + 2);
    assert(kind === 1 || kind === 2);
    records.set(entry.readUInt32BE(0) * 8192 + bytes.readUInt16BE(at), {
      kind,
      compressed: bytes.readUInt8(at + 3) === 1,
      storedLength: bytes.readUInt32BE(at + 4),
      crc: bytes.readUInt32BE(at + 8),
      digest: bytes.subarray(at + 12, at + 44),
    });
  }
}

interface ImageBinding {
  readonly mark: string;
  readonly backing: string | null;
  readonly virtualSize: number;
  readonly structure: string;
}

/** docs/format/image.md. Also that every byte is covered: what no table, cluster or frame uses is zero, and nothing is used twice. */
function readImage(image: Buffer, binding: ImageBinding, records: ReadonlyMap<number, ClusterRecord>): Map<number, Buffer | undefined> {
  const clusterBits = image.readUInt32BE(20);
  const clusterSize = 2 ** clusterBits;
  assert.deepEqual([image.readUInt32BE(0), image.readUInt32BE(4), u64(image, 24)], [0x514649fb, 3, binding.virtualSize]);
  assert.equal(image.length % clusterSize, 0);
  checkNames(image, clusterSize, binding);
  const used = new Uint8Array(image.length);
  const use = (offset: number, length: number): Buffer => {
    for (let at = offset; at < offset + length; at++) used[at] = (used[at] ?? 0) + 1;
    return image.subarray(offset, offset + length);
  };
  const [l1, refcountTable] = [u64(image, 40), u64(image, 48)];
  const l1Entries = Math.max(1, Math.ceil(binding.virtualSize / (clusterSize ** 2 / 8)));
  assert.deepEqual([l1, image.readUInt32BE(36), u64(image, 8) > 0], [clusterSize, l1Entries, binding.backing !== null]);
  const head = use(0, refcountTable + clusterSize * image.readUInt32BE(56));
  const tables = offsetsIn(image.subarray(l1, l1 + 8 * l1Entries));
  const l2 = tables.map(([, offset]) => use(offset, clusterSize));
  const blocks = offsetsIn(head.subarray(refcountTable)).map(([, offset]) => use(offset, clusterSize));
  assert.equal(blake3(blake3(head), blake3(...l2), blake3(...blocks)).toString('hex'), binding.structure);

  const clusters = new Map<number, Buffer | undefined>();
  tables.forEach(([index], position) => {
    const table = l2[position] ?? Buffer.alloc(0);
    for (let slot = 0; slot < clusterSize / 8; slot++) {
      const entry = table.readBigUInt64BE(8 * slot);
      if (entry === 0n) continue;
      const cluster = (index * clusterSize) / 8 + slot;
      const record = records.get(cluster);
      assert(record, `cluster ${cluster} has no record`);
      clusters.set(cluster, readCluster(entry, clusterBits, record, use));
    }
  });
  assert.equal(clusters.size, records.size);
  used.forEach((times, at) => {
    if (times !== 1) assert(times === 0 && image[at] === 0, `byte ${at} is used ${times} times`);
  });
  return clusters;
}

function readCluster(
  entry: bigint,
  clusterBits: number,
  record: ClusterRecord,
  use: (offset: number, length: number) => Buffer,
): Buffer | undefined {
  if (entry === 1n) {
    assert(record.kind === 2 && isZero(record.digest));
    return undefined;
  }
  assert.equal(record.kind, 1);
  const compressed = ((entry >> 62n) & 1n) === 1n;
  assert.equal(compressed, record.compressed);
  let bytes: Buffer;
  if (compressed) {
    const x = BigInt(62 - (clusterBits - 8));
    const offset = Number(entry & ((1n << x) - 1n));
    const sectors = Number((entry & ((1n << 62n) - 1n)) >> x);
    const frame = use(offset, record.storedLength);
    assert.equal(Math.floor((offset + frame.length - 1) / 512) - Math.floor(offset / 512), sectors);
    assert.equal(crc32c(frame), record.crc);
    bytes = zstdDecompressSync(frame);
  } else {
    assert.equal(entry >> 62n, 2n);
    bytes = use(Number(entry & ((1n << 56n) - 512n)), 2 ** clusterBits);
  }
  assert.equal(bytes.length, 2 ** clusterBits);
  assert(blake3(bytes).equals(record.digest) && !isZero(bytes));
  return bytes;
}

function checkNames(image: Buffer, clusterSize: number, { mark, backing }: ImageBinding): void {
  const found = new Map<number, string>();
  let at = 112;
  for (; image.readUInt32BE(at) !== 0; at += 8 + Math.ceil(image.readUInt32BE(at + 4) / 8) * 8) {
    found.set(image.readUInt32BE(at), image.toString('latin1', at + 8, at + 8 + image.readUInt32BE(at + 4)));
  }
  const names = clusterSize >= 4096 ? [0x6803f857] : [];
  assert.deepEqual([...found.keys()], [...(backing === null ? [] : [0xe2792aca]), 0x434b4944, ...names]);
  assert.equal(found.get(0x434b4944), mark);
  const nameAt = u64(image, 8);
  const name = nameAt === 0 ? null : image.toString('utf8', nameAt, nameAt + image.readUInt32BE(16));
  assert.deepEqual([name, nameAt === 0 ? at + 8 : nameAt], [backing, at + 8]);
  if (backing !== null) assert.equal(found.get(0xe2792aca), 'qcow2');
}

/** Entries that are not 0, with their index. */
function offsetsIn(table: Buffer): [index: number, offset: number][] {
  const found: [number, number][] = [];
  for (let index = 0; index < table.length / 8; index++) {
    const entry = table.readBigUInt64BE(8 * index);
    if (entry !== 0n) found.push([index, Number(entry & ((1n << 56n) - 512n))]);
  }
  return found;
}

export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}

function hasNumbers<Name extends string>(value: unknown, names: readonly Name[]): value is Record<Name, number> {
  return typeof value === 'object' && value !== null && names.every((name) => typeof Reflect.get(value, name) === 'number');
}

function hasTexts<Name extends string>(value: unknown, names: readonly Name[]): value is Record<Name, string> {
  return typeof value === 'object' && value !== null && names.every((name) => typeof Reflect.get(value, name) === 'string');
}
