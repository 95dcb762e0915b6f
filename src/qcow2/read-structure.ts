// Reads back everything in one of our images that is not guest data, digests it, and notes which bytes of the file are used.
// It trusts nothing it reads: offsets are checked against the file before they are followed.

import { type Blake3, hex } from '../plumbing/blake3.ts';
import type { ByteSource } from '../plumbing/byte-source.ts';
import type { Qcow2Header } from './header.ts';
import { invalidImage } from './invalid-image.ts';
import { readEntry } from './l2-entry.ts';
import { structureDigest } from './structure-digest.ts';
import type { UsedBytes } from './used-bytes.ts';

const OFFSET_MASK_HIGH = 0x00ff_ffff;
const ENTRY_BYTES = 8;

export interface StructureReading {
  readonly source: ByteSource;
  readonly header: Qcow2Header;
  /** Exact size of the disk in bytes: what a last cluster holds behind it is not data and must be zero. */
  readonly diskSize: number;
  readonly blake3: Blake3;
}

/**
 * The structure digest of an image, hex (structure-digest.ts says of what). Marks tables and plain clusters in `used`; compressed
 * clusters are marked by who knows their exact length. Throws QCOW2_INVALID where a table does not lie where it must.
 */
export async function readStructure({ source, header, diskSize, blake3 }: StructureReading, used: UsedBytes): Promise<string> {
  const { clusterSize } = header;
  const headLength = measureHead(header);
  const head = await readTable(source, 0, Buffer.alloc(Math.min(headLength, source.size + 1)));
  used.add(0, headLength);
  const l2 = blake3.create();
  const shape = { clusterBits: header.clusterBits, extended: false, version: 3 } as const;
  const entries = clusterSize / ENTRY_BYTES;
  // One memory for all tables: a sparse disk of many terabytes has tens of thousands of them.
  const table = Buffer.alloc(clusterSize);
  const view = new DataView(table.buffer, table.byteOffset, table.length);
  for (const { number, offset } of tableOffsets(head, header.l1Offset, header.l1Size)) {
    l2.update(await readTable(source, offset, table));
    used.add(offset, clusterSize);
    for (let index = 0; index < entries; index++) {
      const entry = readEntry(view, index, shape);
      const guestOffset = (number * entries + index) * clusterSize;
      if (entry.kind === 'standard') used.add(entry.hostOffset, Math.min(clusterSize, diskSize - guestOffset));
    }
  }
  const refcounts = blake3.create();
  for (const { offset } of tableOffsets(head, header.refcountTableOffset, (header.refcountTableClusters * clusterSize) / ENTRY_BYTES)) {
    refcounts.update(await readTable(source, offset, table));
    used.add(offset, clusterSize);
  }
  return hex(structureDigest(blake3, { head, l2: l2.digest(), refcounts: refcounts.digest() }));
}

/** Bytes of the head, as image-layout.ts lays it out; a damaged header must not make us take gigabytes of the file for it. */
function measureHead({ clusterSize, l1Offset, l1Size, refcountTableOffset, refcountTableClusters }: Qcow2Header): number {
  const l1Clusters = Math.ceil((l1Size * ENTRY_BYTES) / clusterSize);
  if (l1Offset !== clusterSize || refcountTableOffset !== (1 + l1Clusters) * clusterSize) {
    throw invalidImage(`the tables at ${l1Offset} and ${refcountTableOffset} do not follow the header`, { l1Offset, refcountTableOffset });
  }
  return refcountTableOffset + refcountTableClusters * clusterSize;
}

/** The offsets in a table of tables, without its empty entries. */
function* tableOffsets(head: Buffer, start: number, entries: number): Generator<{ readonly number: number; readonly offset: number }> {
  for (let number = 0; number < entries; number++) {
    const at = start + number * ENTRY_BYTES;
    const low = head.readUInt32BE(at + 4);
    const offset = (head.readUInt32BE(at) & OFFSET_MASK_HIGH) * 2 ** 32 + (low - (low % 512));
    if (offset !== 0) yield { number, offset };
  }
}

/** Fills `bytes`, which may be memory to use again. */
async function readTable(source: ByteSource, offset: number, bytes: Buffer): Promise<Buffer> {
  const { length } = bytes;
  if (!Number.isSafeInteger(offset) || offset + length > source.size) {
    throw invalidImage(`a table of ${length} bytes at ${offset} is not inside the file of ${source.size} bytes`, { offset, length });
  }
  await source.read(bytes, offset);
  return bytes;
}
