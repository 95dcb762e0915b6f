// The first bytes of an image: one read for the header, and for most images the L1 table with it.
// It must not read more than the first cluster needs.

import type { ByteSource } from '../plumbing/byte-source.ts';
import { MAGIC, parseClusterBits, parseHeader, type Qcow2Header, V2_HEADER_LENGTH } from './header.ts';
import type { Qcow2Limits } from './limits.ts';

/** Header and L1 table of a disk of 1 TiB in clusters of 64 KiB; on an object store a second read costs more than these bytes. */
const FIRST_READ_BYTES = 131_072;

export interface ImageHead {
  readonly header: Qcow2Header;
  /** The first bytes of the file, at least the first cluster. */
  readonly bytes: Uint8Array;
}

/** Throws QCOW2_INVALID or QCOW2_UNSUPPORTED, and what the source throws. */
export async function readHead(source: ByteSource, limits: Qcow2Limits): Promise<ImageHead> {
  let bytes = await readFirst(source, FIRST_READ_BYTES);
  const isImage = bytes.length >= V2_HEADER_LENGTH && new DataView(bytes.buffer).getUint32(0) === MAGIC;
  if (isImage) {
    const clusterSize = 2 ** parseClusterBits(bytes);
    if (clusterSize > bytes.length && source.size > bytes.length) bytes = await readFirst(source, clusterSize);
  }
  return { header: parseHeader(bytes, source.size, limits), bytes };
}

async function readFirst(source: ByteSource, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(Math.min(source.size, length));
  await source.read(bytes, 0);
  return bytes;
}
