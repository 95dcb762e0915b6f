// One attack: an image as it is now, given to the library in every way that a program has, and each answer held against the judge's.
// A refusal by QCOW2_INVALID or QCOW2_UNSUPPORTED is an answer where the judge allows one; every other error is a fault.

import type { DiskReader } from '../../src/disk/disk-reader.ts';
import type { ByteSource } from '../../src/plumbing/byte-source.ts';
import { isChainkeepError } from '../../src/plumbing/errors.ts';
import { checkImage } from '../../src/qcow2/checker.ts';
import { type ClusterCodec, createClusterCodec } from '../../src/qcow2/cluster-codec.ts';
import { openQcow2, type Qcow2Image } from '../../src/qcow2/image.ts';
import { readImageInfo } from '../../src/qcow2/image-info.ts';
import { mapImage } from '../../src/qcow2/image-map.ts';
import type { Random } from '../random.ts';
import type { HostileImage } from './hostile-image.ts';
import { judgeCluster, judgeHeader, type Said, type Verdict } from './judge.ts';

/** Clusters that are read one by one; of larger disks the first, the last and some in between. */
const MOST_CLUSTERS = 48;
/** A disk that grew beyond this is not read as a whole. */
const LARGEST_WHOLE_READ = 8 * 1024 ** 2;
const AGAIN_AND_AGAIN = /used again and again/;

export interface Attacked {
  readonly faults: readonly string[];
  readonly opened: boolean;
  /** Clusters whose content was right, and that were rightly refused. */
  readonly read: number;
  readonly refused: number;
}

const codec: ClusterCodec = createClusterCodec();
/** Read into again and again: what is measured is the memory of the library. */
const wholeDisk = Buffer.alloc(LARGEST_WHOLE_READ);
const judgedDisk = Buffer.alloc(LARGEST_WHOLE_READ);

export async function attack(image: HostileImage, random: Random): Promise<Attacked> {
  const attacker = new Attacker(image, random.chance(0.8));
  const said = judgeHeader(image);
  await attacker.ask('info', () => readImageInfo(attacker.source));
  const report = await attacker.ask('check', () => checkImage(attacker.source, { windowClusters: 4096, mostTables: 2000 }));
  const opened = await attacker.ask('open', () => openQcow2(attacker.source, { strict: attacker.strict, layer: true }));
  if (opened && typeof said === 'string') attacker.blame(`opened although ${said}`);
  if (!opened && image.length >= image.base.bytes.length && image.isUntouched({ at: 0, length: image.structures.said.clusterSize }))
    attacker.blame('a header that nobody touched is refused');
  if (opened && typeof said !== 'string') {
    await attacker.readClusters(opened, said, random);
    await attacker.readPieces(opened, said, random);
    await attacker.readWhole(opened, said, random.chance(0.5));
    if (report && report.corruptions + report.checkErrors === 0 && attacker.tableRefusals > 0)
      attacker.blame(`check finds nothing wrong, but ${attacker.tableRefusals} clusters cannot be read`);
  }
  await opened?.close();
  return { faults: attacker.faults, opened: opened !== undefined, read: attacker.read, refused: attacker.refused };
}

/** The bytes of the image as a source that notices every read outside of them. */
export function hostileSource(image: HostileImage, blame: (fault: string) => void): ByteSource {
  return {
    name: 'hostile.qcow2',
    size: image.length,
    async read(buffer, offset) {
      if (!Number.isSafeInteger(offset) || offset < 0 || offset + buffer.length > image.length) {
        blame(`a read of ${buffer.length} bytes at ${offset}, outside of the file of ${image.length}`);
        throw new Error('a read outside of the file');
      }
      buffer.set(image.bytes.subarray(offset, offset + buffer.length));
    },
    close: async () => undefined,
  };
}

class Attacker {
  readonly faults: string[] = [];
  readonly source: ByteSource;
  readonly strict: boolean;
  read = 0;
  refused = 0;
  tableRefusals = 0;
  readonly #image: HostileImage;

  constructor(image: HostileImage, strict: boolean) {
    this.#image = image;
    this.strict = strict;
    this.source = hostileSource(image, (fault) => this.blame(fault));
  }

  blame(fault: string): void {
    this.faults.push(fault);
  }

  /** The answer, or undefined where it was refused as it may be. */
  async ask<Answer>(what: string, work: () => Promise<Answer>): Promise<Answer | undefined> {
    return (await this.#try(what, work)).answer;
  }

  async #try<Answer>(what: string, work: () => Promise<Answer>): Promise<{ readonly answer?: Answer; readonly refusal?: string }> {
    try {
      return { answer: await work() };
    } catch (error) {
      if (isChainkeepError(error, 'QCOW2_INVALID') || isChainkeepError(error, 'QCOW2_UNSUPPORTED')) return { refusal: error.message };
      this.blame(`${what}: ${error instanceof Error ? error.stack : String(error)}`);
      return { refusal: 'a fault' };
    }
  }

  async readClusters(opened: Qcow2Image, said: Said, random: Random): Promise<void> {
    if (opened.size !== said.size) this.blame(`the disk has ${opened.size} bytes, the header says ${said.size}`);
    for (const cluster of chooseClusters(said, random)) {
      const verdict = judgeCluster(this.#image, said, cluster, this.strict);
      const offset = cluster * said.clusterSize;
      const buffer = wholeDisk.subarray(0, Math.min(said.clusterSize, said.size - offset)).fill(0xee);
      const { refusal } = await this.#try(`read at ${offset}`, () => opened.read(buffer, offset));
      if ('refuse' in verdict && !/stream|frame/.test(verdict.refuse)) this.tableRefusals += this.strict ? 1 : 0;
      this.#compare(`the cluster at ${offset}`, verdict, { buffer, refusal });
    }
  }

  /** Ranges that begin and end anywhere. */
  async readPieces(opened: Qcow2Image, said: Said, random: Random): Promise<void> {
    for (let left = said.size === 0 ? 0 : 3; left > 0; left--) {
      const offset = random.below(Math.min(said.size, 2 ** 31));
      const buffer = wholeDisk.subarray(0, Math.min(said.size - offset, random.between(1, 3 * said.clusterSize), 200_000)).fill(0xee);
      const { refusal } = await this.#try(`read at ${offset}`, () => opened.read(buffer, offset));
      this.#compare(`${buffer.length} bytes at ${offset}`, this.#judgeRange(said, offset, buffer.length), { buffer, refusal });
    }
  }

  /** At once, or the way a worker of the copy engine does it, by extents; and its map. */
  async readWhole(opened: Qcow2Image, said: Said, byExtents: boolean): Promise<void> {
    await this.#try('map', async () => {
      for await (const entry of mapImage([opened])) if (entry.length <= 0) this.blame('the map has an empty entry');
    });
    if (said.size > Math.min(LARGEST_WHOLE_READ, 2 * this.#image.base.truth.length)) return;
    const verdict = this.#judgeRange(said, 0, said.size);
    const buffer = wholeDisk.subarray(0, said.size).fill(0xee);
    if (byExtents) {
      const { refusal } = await this.#try('extents', () => readByExtents(opened, buffer));
      this.#compare('the whole disk by extents', verdict, { buffer, refusal });
    } else {
      const { refusal } = await this.#try('read', () => opened.read(buffer, 0));
      this.#compare('the whole disk', verdict, { buffer, refusal });
    }
  }

  #judgeRange(said: Said, offset: number, length: number): Verdict {
    const { clusterSize } = said;
    const bytes = judgedDisk.subarray(0, length);
    let mayRefuse = false;
    for (let cluster = Math.floor(offset / clusterSize); cluster * clusterSize < offset + length; cluster++) {
      const verdict = judgeCluster(this.#image, said, cluster, this.strict);
      // A piece may lie in the readable part of a cluster that cannot be read as a whole.
      if ('refuse' in verdict) return said.extended && length < said.size ? { bytes: Buffer.alloc(0), mayRefuse: true } : verdict;
      const start = cluster * clusterSize - offset;
      bytes.set(verdict.bytes.subarray(Math.max(0, -start), length - start), Math.max(0, start));
      mayRefuse ||= verdict.mayRefuse ?? false;
    }
    return { bytes, mayRefuse };
  }

  #compare(what: string, verdict: Verdict, { buffer, refusal }: { readonly buffer: Buffer; readonly refusal: string | undefined }): void {
    const judged = 'bytes' in verdict ? verdict.bytes : undefined;
    const opinion = 'refuse' in verdict ? verdict.refuse : '';
    if (refusal === undefined) {
      if (judged === undefined) this.blame(`${what} is read, but it is ${opinion}`);
      else if (judged.length > 0 && !buffer.equals(judged)) this.blame(`${what} reads as OTHER CONTENT`);
      else this.read += 1;
    } else if (judged !== undefined && !('mayRefuse' in verdict && verdict.mayRefuse) && !AGAIN_AND_AGAIN.test(refusal)) {
      if (refusal !== 'a fault') this.blame(`${what} can be read, but is refused: ${refusal}`);
    } else this.refused += 1;
  }
}

function chooseClusters({ size, clusterSize }: Said, random: Random): Set<number> {
  const count = Math.ceil(size / clusterSize);
  if (count <= MOST_CLUSTERS) return new Set(Array.from({ length: count }, (_, cluster) => cluster));
  const some = Array.from({ length: MOST_CLUSTERS / 2 }, () => random.below(Math.min(count, 400)));
  return new Set([0, 1, 2, 3, count - 1, count - 2, random.below(count), ...some.filter((cluster) => cluster < count)]);
}

async function readByExtents(disk: DiskReader, bytes: Buffer): Promise<void> {
  let at = 0;
  for await (const { offset, length, kind, stored } of disk.extents({ offset: 0, length: disk.size })) {
    if (offset !== at || length <= 0) throw new Error(`an extent of ${length} bytes at ${offset} follows one that ends at ${at}`);
    at += length;
    const part = bytes.subarray(offset, offset + length);
    if (kind !== 'data') part.fill(0);
    else if (!stored) await disk.read(part, offset);
    else if (stored.compression === 'none') await stored.source.read(part, stored.offset);
    else {
      const compressed = new Uint8Array(stored.length);
      await stored.source.read(compressed, stored.offset);
      const cluster = new Uint8Array(stored.expandedLength ?? 0);
      codec.decompress(stored.compression, compressed, cluster);
      part.set(cluster.subarray(0, length));
    }
  }
  if (at !== disk.size) throw new Error(`the extents end at ${at}, the disk at ${disk.size}`);
}
