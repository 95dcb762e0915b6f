// Reads a digests file section by section. Nothing is used before it has been checked against the root in the sidecar.

import { type Blake3, DIGEST_BYTES, hex } from '../plumbing/blake3.ts';
import type { ByteSource } from '../plumbing/byte-source.ts';
import { ChainkeepError } from '../plumbing/errors.ts';
import {
  contentRoot,
  countRanges,
  DIRECTORY_BYTES,
  type DigestsHeader,
  type DigestsTrailer,
  digestsRoot,
  HEADER_BYTES,
  INDEX,
  INDEX_BYTES,
  PAGE_ENTRIES,
  parseDigestsHeader,
  parseTrailer,
  RECORD_BYTES,
  TRAILER_BYTES,
} from './digests-format.ts';

/** What the sidecar says the file must be. */
export interface DigestsBinding extends DigestsHeader {
  readonly backupId: string;
  readonly root: string;
  readonly contentRoot: string;
}

export interface Section {
  readonly range: number;
  /** RECORD_BYTES each, ascending by cluster. */
  readonly records: Buffer;
}

export class DigestsReader {
  readonly #source: ByteSource;
  readonly #blake3: Blake3;
  readonly #binding: DigestsBinding;
  readonly #trailer: DigestsTrailer;
  readonly #directory: Buffer;
  /** The page used last and the one before: a planner walks ahead of who follows it. */
  #pages: readonly { readonly number: number; readonly bytes: Buffer }[] = [];

  private constructor(source: ByteSource, blake3: Blake3, binding: DigestsBinding, trailer: DigestsTrailer, directory: Buffer) {
    this.#source = source;
    this.#blake3 = blake3;
    this.#binding = binding;
    this.#trailer = trailer;
    this.#directory = directory;
  }

  /** Takes over the source; throws DIGESTS_INVALID when the file is not the one that the sidecar names. */
  static async open(source: ByteSource, blake3: Blake3, binding: DigestsBinding): Promise<DigestsReader> {
    if (source.size < HEADER_BYTES + TRAILER_BYTES) throw invalid(source, binding, `it has only ${source.size} bytes`);
    const header = await readAt(source, 0, HEADER_BYTES);
    const trailerBytes = await readAt(source, source.size - TRAILER_BYTES, TRAILER_BYTES);
    const parsed = parseDigestsHeader(header);
    const trailer = parseTrailer(trailerBytes);
    if (!parsed || !trailer) throw invalid(source, binding, 'its header or trailer is damaged');
    checkLayout(source, binding, parsed, trailer);
    const directory = await readAt(source, trailer.directoryOffset, source.size - TRAILER_BYTES - trailer.directoryOffset);
    if (hex(digestsRoot(blake3, header, directory, trailerBytes)) !== binding.root)
      throw invalid(source, binding, 'its root is not the one in the sidecar');
    if (hex(trailer.contentRoot) !== binding.contentRoot) throw invalid(source, binding, 'its content root is not the one in the sidecar');
    return new DigestsReader(source, blake3, binding, trailer, directory);
  }

  /** Clusters the image decides. */
  get records(): number {
    return this.#trailer.records;
  }

  get sections(): number {
    return this.#trailer.sections;
  }

  /** One hash per range of what the restore point reads as, checked against the content root. */
  async ranges(): Promise<Buffer> {
    const bytes = await readAt(this.#source, this.#trailer.rangesOffset, this.#trailer.pagesOffset - this.#trailer.rangesOffset);
    if (hex(contentRoot(this.#blake3, this.#binding, bytes)) !== this.#binding.contentRoot) {
      throw invalid(this.#source, this.#binding, 'the hashes of its ranges do not give the content root');
    }
    return bytes;
  }

  /** The records of a range, or undefined when the image decides nothing there. */
  async section(range: number): Promise<Section | undefined> {
    const number = this.#pageOf(range);
    if (number < 0) return undefined;
    const page = await this.#loadPage(number);
    const at = findEntry(page, range);
    return at < 0 ? undefined : this.#loadSection(page, at);
  }

  /** Every section in guest order, checked; also that nothing lies between them. */
  async *everySection(): AsyncGenerator<Section> {
    let end = HEADER_BYTES;
    for (let number = 0; number * DIRECTORY_BYTES < this.#directory.length; number++) {
      const page = await this.#loadPage(number);
      for (let at = 0; at < page.length; at += INDEX_BYTES) {
        if (Number(page.readBigUInt64BE(at + INDEX.OFFSET)) !== end)
          throw invalid(this.#source, this.#binding, `there is a gap at byte ${end}`);
        const section = await this.#loadSection(page, at);
        end += section.records.length;
        yield section;
      }
    }
    if (end !== this.#trailer.rangesOffset) throw invalid(this.#source, this.#binding, `there is a gap at byte ${end}`);
  }

  close(): Promise<void> {
    return this.#source.close();
  }

  /** The page that may hold `range`; -1 when it lies in front of the first. */
  #pageOf(range: number): number {
    let low = 0;
    let high = this.#directory.length / DIRECTORY_BYTES;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#directory.readUInt32BE(middle * DIRECTORY_BYTES) <= range) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  async #loadPage(number: number): Promise<Buffer> {
    const known = this.#pages.find((page) => page.number === number);
    if (known) return known.bytes;
    const { sections, pagesOffset } = this.#trailer;
    const entries = Math.min(PAGE_ENTRIES, sections - number * PAGE_ENTRIES);
    const bytes = await readAt(this.#source, pagesOffset + number * PAGE_ENTRIES * INDEX_BYTES, entries * INDEX_BYTES);
    const at = number * DIRECTORY_BYTES;
    const hash = this.#directory.subarray(at + 4, at + DIRECTORY_BYTES);
    if (!hash.equals(this.#blake3.hash(bytes))) throw invalid(this.#source, this.#binding, `index page ${number} is damaged`);
    this.#pages = [{ number, bytes }, ...this.#pages.slice(0, 1)];
    return bytes;
  }

  async #loadSection(page: Buffer, at: number): Promise<Section> {
    const range = page.readUInt32BE(at + INDEX.RANGE);
    const offset = Number(page.readBigUInt64BE(at + INDEX.OFFSET));
    const length = page.readUInt32BE(at + INDEX.RECORDS) * RECORD_BYTES;
    // A page whose hash fits may still be forged: it must not make us take more memory than the file has bytes.
    if (offset + length > this.#trailer.rangesOffset)
      throw invalid(this.#source, this.#binding, `the records of range ${range} lie outside`);
    const records = await readAt(this.#source, offset, length);
    const hash = page.subarray(at + INDEX.HASH, at + INDEX.HASH + DIGEST_BYTES);
    if (!hash.equals(this.#blake3.hash(records))) throw invalid(this.#source, this.#binding, `the records of range ${range} are damaged`);
    return { range, records };
  }
}

/** Everything has its one place: header, sections, ranges, pages, directory, trailer, end of file. */
function checkLayout(source: ByteSource, binding: DigestsBinding, header: DigestsHeader, trailer: DigestsTrailer): void {
  if (header.clusterSize !== binding.clusterSize || header.totalBytes !== binding.totalBytes || header.generation !== binding.generation) {
    throw invalid(source, binding, 'its header does not fit the sidecar');
  }
  const pages = Math.ceil(trailer.sections / PAGE_ENTRIES);
  const fits =
    trailer.rangesOffset === HEADER_BYTES + trailer.records * RECORD_BYTES &&
    trailer.pagesOffset === trailer.rangesOffset + countRanges(header.totalBytes, header.clusterSize) * DIGEST_BYTES &&
    trailer.directoryOffset === trailer.pagesOffset + trailer.sections * INDEX_BYTES &&
    source.size === trailer.directoryOffset + pages * DIRECTORY_BYTES + TRAILER_BYTES;
  if (!fits) throw invalid(source, binding, 'its parts do not add up to its size');
}

function findEntry(page: Buffer, range: number): number {
  let low = 0;
  let high = page.length / INDEX_BYTES;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const found = page.readUInt32BE(middle * INDEX_BYTES + INDEX.RANGE);
    if (found === range) return middle * INDEX_BYTES;
    if (found < range) low = middle + 1;
    else high = middle;
  }
  return -1;
}

async function readAt(source: ByteSource, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length);
  await source.read(bytes, offset);
  return bytes;
}

function invalid(source: ByteSource, binding: DigestsBinding, what: string): ChainkeepError {
  return new ChainkeepError('DIGESTS_INVALID', `the digests of backup ${binding.backupId} are damaged: ${what}`, {
    advice: 'verify the repository; restore the file from a copy if there is one',
    context: { backup_id: binding.backupId, file: source.name },
  });
}
