// A small healthy image in memory, laid out so that tests know where everything lies, to be damaged in one place.

import { encodeHeader, type HeaderFields } from '../../src/qcow2/header.ts';
import { writeL1Entry } from '../../src/qcow2/l1-entry.ts';
import { writeRefcount, writeRefcountTableEntry } from '../../src/qcow2/refcounts.ts';

export const CLUSTER = 65_536;
/** Clusters of the file: header, refcount table, refcount block, L1, L2, then data. */
export const PLACE = { refcountTable: 1, refcountBlock: 2, l1: 3, l2: 4, data: 5 } as const;

export interface Crafted {
  readonly bytes: Buffer;
  readonly view: DataView;
  readonly l1: DataView;
  readonly l2: DataView;
  readonly refcountTable: DataView;
  readonly refcountBlock: DataView;
}

/** An image of version 3 with clusters of 64 KiB, an empty L2 table, and `dataClusters` clusters that are counted but not mapped. */
export function craftImage(fields: Partial<HeaderFields> = {}, dataClusters = 0): Crafted {
  const bytes = Buffer.alloc((PLACE.data + dataClusters) * CLUSTER);
  const size = fields.size ?? 4 * 1024 ** 2;
  const header: HeaderFields = {
    clusterBits: 16,
    size,
    l1Size: 1,
    l1Offset: PLACE.l1 * CLUSTER,
    refcountTableOffset: PLACE.refcountTable * CLUSTER,
    refcountTableClusters: 1,
    refcountOrder: 4,
    compressionType: 'zlib',
    ...fields,
  };
  bytes.set(encodeHeader(header));
  const at = (cluster: number): DataView => new DataView(bytes.buffer, bytes.byteOffset + cluster * CLUSTER, CLUSTER);
  const image = {
    bytes,
    view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
    l1: at(PLACE.l1),
    l2: at(PLACE.l2),
    refcountTable: at(PLACE.refcountTable),
    refcountBlock: at(PLACE.refcountBlock),
  };
  writeL1Entry(image.l1, 0, PLACE.l2 * CLUSTER);
  writeRefcountTableEntry(image.refcountTable, 0, PLACE.refcountBlock * CLUSTER);
  for (let cluster = 0; cluster < PLACE.data + dataClusters; cluster += 1) writeRefcount(image.refcountBlock, cluster, 4, 1);
  return image;
}
