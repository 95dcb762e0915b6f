// Where the clusters of one range of a restore point are stored, found once: whoever reads a disk in small steps would otherwise walk the tables of
// every image of the chain for each of them.

import type { DiskReader } from '../disk/disk-reader.ts';
import type { Compression, Extent } from '../disk/extent.ts';
import type { ByteSource } from '../plumbing/byte-source.ts';
import { RANGE_CLUSTERS } from '../transfer/expected-view.ts';
import { COMPRESSIONS } from '../transfer/unit.ts';

/** Clusters that lie one behind the other in one source; a compressed one always by itself. */
export interface StoredRun {
  readonly clusters: number;
  readonly source: ByteSource;
  readonly offset: number;
  readonly compression: Compression;
  /** Compressed: an upper bound of the stored bytes. */
  readonly storedLength: number;
}

export class PlannedRange {
  readonly #clusterSize: number;
  readonly #sources: ByteSource[] = [];
  /** Per cluster: the number of its source, plus 1; 0 where no image says by itself where it is. */
  readonly #numbers = new Uint16Array(RANGE_CLUSTERS);
  readonly #offsets = new Float64Array(RANGE_CLUSTERS);
  readonly #compressions = new Uint8Array(RANGE_CLUSTERS);
  readonly #storedLengths = new Uint32Array(RANGE_CLUSTERS);

  private constructor(clusterSize: number) {
    this.#clusterSize = clusterSize;
  }

  /** `index`: of the range. Throws what the reader throws. */
  static async plan(reader: DiskReader, clusterSize: number, index: number): Promise<PlannedRange> {
    const planned = new PlannedRange(clusterSize);
    const start = index * RANGE_CLUSTERS * clusterSize;
    const range = { offset: start, length: Math.min(RANGE_CLUSTERS * clusterSize, reader.size - start) };
    for await (const extent of reader.extents(range)) planned.#enter(extent, start, reader.size);
    return planned;
  }

  #enter({ offset, length, stored }: Extent, start: number, diskSize: number): void {
    if (!stored || offset % this.#clusterSize !== 0) return;
    const { source, compression, expandedLength } = stored;
    if (compression !== 'none' && expandedLength !== this.#clusterSize) return;
    if (!this.#sources.includes(source)) this.#sources.push(source);
    const end = offset + length;
    for (let at = offset; at < end; at += this.#clusterSize) {
      // Only the end of the disk may cut a cluster.
      if (at + this.#clusterSize > end && end !== diskSize) return;
      const cluster = (at - start) / this.#clusterSize;
      this.#numbers[cluster] = this.#sources.indexOf(source) + 1;
      this.#offsets[cluster] = stored.offset + at - offset;
      this.#compressions[cluster] = COMPRESSIONS.indexOf(compression);
      this.#storedLengths[cluster] = compression === 'none' ? 0 : stored.length;
    }
  }

  /** What begins with `cluster` and ends at the latest before `end`, both counted in the range; undefined where only the reader can read it. */
  run(cluster: number, end: number): StoredRun | undefined {
    const number = this.#numbers[cluster] ?? 0;
    const source = this.#sources[number - 1];
    if (!source) return undefined;
    const offset = this.#offsets[cluster] ?? 0;
    const compression = COMPRESSIONS[this.#compressions[cluster] ?? 0] ?? 'none';
    const storedLength = this.#storedLengths[cluster] ?? 0;
    let next = cluster + 1;
    const follows = (): boolean =>
      this.#numbers[next] === number &&
      this.#compressions[next] === 0 &&
      this.#offsets[next] === offset + (next - cluster) * this.#clusterSize;
    if (compression === 'none') while (next < end && follows()) next++;
    return { clusters: next - cluster, source, offset, compression, storedLength };
  }
}
