// What lies in a digests file, byte by byte; docs/format/digests.md draws it. Integers are big-endian.
//
//   header    64 bytes   magic "CKDIGEST", version u32, algorithm u32 (1 = BLAKE3), cluster bits u32, range clusters u32,
//                        disk size u64, generation u64, zero
//   sections             one for each range in which the image decides something, in guest order: RECORD_BYTES a record
//   ranges    32 bytes each: one hash per range of what the restore point reads as (all zero: the range reads as zeros)
//   pages                the index of the sections: INDEX_BYTES an entry, PAGE_ENTRIES entries a page
//   directory 36 bytes each: first range u32 and hash of each page
//   trailer   96 bytes   magic "CKDIGEND", sections u64, records u64, offset of ranges u64, of pages u64, of directory u64,
//                        content root 32 bytes, zero
//
//   root = BLAKE3(header, directory, trailer): it stands in the sidecar. The trailer covers the ranges by the content root, the
//   directory covers the pages, the pages cover the sections. No byte of the file is uncovered, and no gap is allowed.

import { type Blake3, DIGEST_BYTES } from '../plumbing/blake3.ts';
import { RANGE_CLUSTERS } from '../transfer/expected-view.ts';

export const DIGESTS_MAGIC = 'CKDIGEST';
export const TRAILER_MAGIC = 'CKDIGEND';
export const DIGESTS_VERSION = 1;
export const ALGORITHM_BLAKE3 = 1;
export const HEADER_BYTES = 64;
export const TRAILER_BYTES = 96;
export const INDEX_BYTES = 48;
export const PAGE_ENTRIES = 256;
export const DIRECTORY_BYTES = 4 + DIGEST_BYTES;

/** A record: cluster in the range u16, kind u8, compressed u8, stored length u32, CRC32C u32, digest 32 bytes. */
export const RECORD_BYTES = 44;
export const RECORD = { CLUSTER: 0, KIND: 2, COMPRESSED: 3, STORED_LENGTH: 4, CRC: 8, DIGEST: 12 } as const;

/** An index entry: range u32, records u32, offset u64, hash of the section 32 bytes. */
export const INDEX = { RANGE: 0, RECORDS: 4, OFFSET: 8, HASH: 16 } as const;

export interface DigestsHeader {
  readonly clusterSize: number;
  readonly totalBytes: number;
  readonly generation: number;
}

export interface DigestsTrailer {
  readonly sections: number;
  readonly records: number;
  readonly rangesOffset: number;
  readonly pagesOffset: number;
  readonly directoryOffset: number;
  readonly contentRoot: Uint8Array;
}

export function encodeDigestsHeader(header: DigestsHeader): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  bytes.write(DIGESTS_MAGIC, 0, 'latin1');
  bytes.writeUInt32BE(DIGESTS_VERSION, 8);
  bytes.writeUInt32BE(ALGORITHM_BLAKE3, 12);
  bytes.writeUInt32BE(Math.log2(header.clusterSize), 16);
  bytes.writeUInt32BE(RANGE_CLUSTERS, 20);
  bytes.writeBigUInt64BE(BigInt(header.totalBytes), 24);
  bytes.writeBigUInt64BE(BigInt(header.generation), 32);
  return bytes;
}

/** Undefined when the bytes are not the one encoding of a header of this version. */
export function parseDigestsHeader(bytes: Buffer): DigestsHeader | undefined {
  const header = {
    clusterSize: 2 ** bytes.readUInt32BE(16),
    totalBytes: Number(bytes.readBigUInt64BE(24)),
    generation: Number(bytes.readBigUInt64BE(32)),
  };
  // Numbers that damage made too large have no encoding.
  const possible = Object.values(header).every(Number.isSafeInteger);
  return possible && bytes.equals(encodeDigestsHeader(header)) ? header : undefined;
}

export function encodeTrailer(trailer: DigestsTrailer): Buffer {
  const bytes = Buffer.alloc(TRAILER_BYTES);
  bytes.write(TRAILER_MAGIC, 0, 'latin1');
  bytes.writeBigUInt64BE(BigInt(trailer.sections), 8);
  bytes.writeBigUInt64BE(BigInt(trailer.records), 16);
  bytes.writeBigUInt64BE(BigInt(trailer.rangesOffset), 24);
  bytes.writeBigUInt64BE(BigInt(trailer.pagesOffset), 32);
  bytes.writeBigUInt64BE(BigInt(trailer.directoryOffset), 40);
  bytes.set(trailer.contentRoot, 48);
  return bytes;
}

/** Undefined when the bytes are not the one encoding of a trailer. */
export function parseTrailer(bytes: Buffer): DigestsTrailer | undefined {
  const u64 = (at: number): number => Number(bytes.readBigUInt64BE(at));
  const trailer = {
    sections: u64(8),
    records: u64(16),
    rangesOffset: u64(24),
    pagesOffset: u64(32),
    directoryOffset: u64(40),
    contentRoot: Uint8Array.from(bytes.subarray(48, 48 + DIGEST_BYTES)),
  };
  const small = [trailer.sections, trailer.records, trailer.rangesOffset, trailer.pagesOffset, trailer.directoryOffset].every(
    Number.isSafeInteger,
  );
  return small && bytes.equals(encodeTrailer(trailer)) ? trailer : undefined;
}

export function digestsRoot(blake3: Blake3, header: Uint8Array, directory: Uint8Array, trailer: Uint8Array): Uint8Array {
  const root = blake3.create();
  root.update(header);
  root.update(directory);
  root.update(trailer);
  return root.digest();
}

export function countRanges(totalBytes: number, clusterSize: number): number {
  return Math.ceil(totalBytes / (RANGE_CLUSTERS * clusterSize));
}

const ROOT_TAG = Buffer.from('chainkeep content root 1\n', 'latin1');

/**
 * One hash of what a restore point reads as: the same after merge, copy or recompression. Covers cluster size, the exact size of
 * the disk and the hash of every range.
 */
export function contentRoot(blake3: Blake3, disk: { clusterSize: number; totalBytes: number }, ranges: Uint8Array): Uint8Array {
  const numbers = Buffer.alloc(16);
  numbers.writeBigUInt64BE(BigInt(disk.clusterSize), 0);
  numbers.writeBigUInt64BE(BigInt(disk.totalBytes), 8);
  const root = blake3.create();
  root.update(ROOT_TAG);
  root.update(numbers);
  root.update(ranges);
  return root.digest();
}

const ZERO_LEAVES = Buffer.alloc(RANGE_CLUSTERS * DIGEST_BYTES);
const ZERO_RANGE = new Uint8Array(DIGEST_BYTES);

/** Hash of one range: over the digest of each cluster, 32 zero bytes where it reads as zeros. A range of zeros has a hash of zeros. */
export function rangeHash(blake3: Blake3, leaves: Buffer): Uint8Array {
  return leaves.equals(ZERO_LEAVES) ? ZERO_RANGE : blake3.hash(leaves);
}
