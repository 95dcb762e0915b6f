// The header of an image: what its first cluster says, and every reason to refuse it before anything else is read.
// Names found here are data: nothing in this room opens a file because an image names it.

import { readU64, writeU64 } from '../plumbing/big-endian.ts';
import {
  COMPATIBLE_LAZY_REFCOUNTS,
  encodeFeatureNames,
  FEATURE_NAMES,
  hasBit,
  INCOMPATIBLE_COMPRESSION,
  INCOMPATIBLE_CORRUPT,
  INCOMPATIBLE_DIRTY,
  INCOMPATIBLE_EXTENDED_L2,
} from './feature-bits.ts';
import { checkFeatures, checkGeometry, checkTables } from './header-checks.ts';
import {
  EXTENSION_BACKING_FORMAT,
  EXTENSION_DATA_FILE,
  EXTENSION_FEATURE_NAMES,
  encodeHeaderExtensions,
  type HeaderExtension,
  parseHeaderExtensions,
} from './header-extensions.ts';
import { invalidImage, unsupportedImage } from './invalid-image.ts';
import { MAX_BACKING_NAME_BYTES, MAX_CLUSTER_BITS, MIN_CLUSTER_BITS, type Qcow2Limits } from './limits.ts';

/**
 * Big-endian, from byte 0 of the file:
 *   0  u32  magic "QFI\xfb"              56  u32  clusters of the refcount table
 *   4  u32  version, 2 or 3              60  u32  number of snapshots
 *   8  u64  offset of the backing name   64  u64  offset of the snapshot table
 *  16  u32  length of the backing name   --- version 2 ends here, its extensions start at 72 ---
 *  20  u32  cluster bits                 72  u64  incompatible features
 *  24  u64  size of the disk             80  u64  compatible features
 *  32  u32  encryption method            88  u64  autoclear features
 *  36  u32  entries of the L1 table      96  u32  refcount order: a refcount has 1 << order bits
 *  40  u64  offset of the L1 table      100  u32  length of this header
 *  48  u64  offset of the refcount table 104 u8   compression type, 105-111 zero
 */
export const MAGIC = 0x514649fb;
const VERSION_AT = 4;
const BACKING_OFFSET_AT = 8;
const BACKING_LENGTH_AT = 16;
const CLUSTER_BITS_AT = 20;
const SIZE_AT = 24;
const ENCRYPTION_AT = 32;
const L1_SIZE_AT = 36;
const L1_OFFSET_AT = 40;
const REFCOUNT_TABLE_OFFSET_AT = 48;
const REFCOUNT_TABLE_CLUSTERS_AT = 56;
const SNAPSHOT_COUNT_AT = 60;
const SNAPSHOTS_OFFSET_AT = 64;
export const V2_HEADER_LENGTH = 72;
const INCOMPATIBLE_AT = 72;
const COMPATIBLE_AT = 80;
const AUTOCLEAR_AT = 88;
const REFCOUNT_ORDER_AT = 96;
const HEADER_LENGTH_AT = 100;
const V3_MIN_HEADER_LENGTH = 104;
const COMPRESSION_AT = 104;
/** Header of version 3 with the compression type; what we write. */
export const V3_HEADER_LENGTH = 112;
const V2_REFCOUNT_ORDER = 4;
/** In a smaller first cluster the feature names would leave no room for the backing name. */
const MIN_CLUSTER_FOR_FEATURE_NAMES = 4096;
const MAX_BACKING_FORMAT_BYTES = 15;

export type ClusterCompression = 'zlib' | 'zstd';

export interface BackingName {
  /** As it stands in the image; data, never to be opened. */
  readonly name: string;
  /** Undefined when the image does not say; it is never guessed. */
  readonly format: string | undefined;
}

export interface Qcow2Header {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  readonly clusterSize: number;
  /** Bytes of the virtual disk. */
  readonly size: number;
  /** Entries. */
  readonly l1Size: number;
  readonly l1Offset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  readonly refcountOrder: number;
  readonly snapshotCount: number;
  readonly snapshotsOffset: number;
  readonly incompatible: bigint;
  readonly compatible: bigint;
  readonly autoclear: bigint;
  /** Refcounts are not to be trusted; reading is fine. */
  readonly dirty: boolean;
  /** Reading is fine, writing is not. */
  readonly corrupt: boolean;
  readonly lazyRefcounts: boolean;
  readonly extendedL2: boolean;
  readonly compressionType: ClusterCompression;
  readonly headerLength: number;
  /** Bytes of the header behind what this version knows; to be kept when a header is written again. */
  readonly unknownFields: Uint8Array;
  readonly extensions: readonly HeaderExtension[];
  readonly backing: BackingName | undefined;
  /** Oddities that are no reason to refuse. */
  readonly warnings: readonly string[];
}

/**
 * Parses the first cluster of an image; `firstBytes` holds at least that cluster, or the whole file where it is shorter.
 * Throws QCOW2_INVALID (broken) or QCOW2_UNSUPPORTED (encrypted, external data file, unknown feature, over a limit). Rules: QEMU's qcow2.rst.
 */
export function parseHeader(firstBytes: Uint8Array, fileSize: number, limits: Qcow2Limits): Qcow2Header {
  const view = new DataView(firstBytes.buffer, firstBytes.byteOffset, firstBytes.byteLength);
  if (firstBytes.length < 4 || view.getUint32(0) !== MAGIC) throw invalidImage('not a QCOW2 image: the magic number is missing');
  if (firstBytes.length < V2_HEADER_LENGTH) throw invalidImage(`the header is cut off after ${firstBytes.length} bytes`);
  const version = parseVersion(view.getUint32(VERSION_AT));
  const clusterBits = parseClusterBits(firstBytes);
  const clusterSize = 2 ** clusterBits;
  if (firstBytes.length < Math.min(fileSize, clusterSize)) throw new RangeError('parseHeader needs the whole first cluster');
  const cluster = firstBytes.subarray(0, clusterSize);
  const headerLength = parseHeaderLength(view, version, cluster.length);
  const backingOffset = readU64(view, BACKING_OFFSET_AT);
  const backingLength = view.getUint32(BACKING_LENGTH_AT);
  checkBackingPlace(backingOffset, backingLength, headerLength, cluster.length);
  const extensions = parseHeaderExtensions(cluster, headerLength, backingOffset || cluster.length, limits);
  const bits = version === 3 ? parseFeatureBits(view) : { incompatible: 0n, compatible: 0n, autoclear: 0n };
  const compressionByte = version === 3 && headerLength > COMPRESSION_AT ? (firstBytes[COMPRESSION_AT] ?? 0) : 0;
  checkFeatures({ ...bits, extensions, compressionByte, clusterBits, encryption: view.getUint32(ENCRYPTION_AT) });

  const backing = backingOffset === 0 ? undefined : parseBacking(cluster, backingOffset, backingLength, extensions);
  const header: Qcow2Header = {
    version,
    clusterBits,
    clusterSize,
    size: checkGeometry(view.getBigUint64(SIZE_AT), limits),
    l1Size: view.getUint32(L1_SIZE_AT),
    l1Offset: readU64(view, L1_OFFSET_AT),
    refcountTableOffset: readU64(view, REFCOUNT_TABLE_OFFSET_AT),
    refcountTableClusters: view.getUint32(REFCOUNT_TABLE_CLUSTERS_AT),
    refcountOrder: version === 3 ? view.getUint32(REFCOUNT_ORDER_AT) : V2_REFCOUNT_ORDER,
    snapshotCount: view.getUint32(SNAPSHOT_COUNT_AT),
    snapshotsOffset: readU64(view, SNAPSHOTS_OFFSET_AT),
    ...bits,
    dirty: hasBit(bits.incompatible, INCOMPATIBLE_DIRTY),
    corrupt: hasBit(bits.incompatible, INCOMPATIBLE_CORRUPT),
    lazyRefcounts: hasBit(bits.compatible, COMPATIBLE_LAZY_REFCOUNTS),
    extendedL2: hasBit(bits.incompatible, INCOMPATIBLE_EXTENDED_L2),
    compressionType: compressionByte === 1 ? 'zstd' : 'zlib',
    headerLength,
    unknownFields: Uint8Array.from(cluster.subarray(Math.min(V3_HEADER_LENGTH, headerLength), headerLength)),
    extensions,
    backing,
    warnings: findOddities(headerLength, extensions),
  };
  checkTables(header, fileSize, limits);
  return header;
}

/** Checked before any shift: JavaScript shifts wrap. */
export function parseClusterBits(firstBytes: Uint8Array): number {
  const bits = new DataView(firstBytes.buffer, firstBytes.byteOffset, firstBytes.byteLength).getUint32(CLUSTER_BITS_AT);
  if (bits < MIN_CLUSTER_BITS || bits > MAX_CLUSTER_BITS) {
    throw invalidImage(`cluster_bits is ${bits}, allowed are ${MIN_CLUSTER_BITS} to ${MAX_CLUSTER_BITS}`);
  }
  return bits;
}

function parseVersion(version: number): 2 | 3 {
  if (version === 2 || version === 3) return version;
  throw unsupportedImage(`QCOW2 version ${version} is not known`, 'convert the image to version 3 with a tool that knows it');
}

function parseHeaderLength(view: DataView, version: 2 | 3, available: number): number {
  if (version === 2) return V2_HEADER_LENGTH;
  if (available < V3_MIN_HEADER_LENGTH) throw invalidImage(`the header is cut off after ${available} bytes`);
  const length = view.getUint32(HEADER_LENGTH_AT);
  if (length < V3_MIN_HEADER_LENGTH || length > available) {
    throw invalidImage(`header_length is ${length}, allowed are ${V3_MIN_HEADER_LENGTH} to ${available}`);
  }
  return length;
}

function parseFeatureBits(view: DataView): { incompatible: bigint; compatible: bigint; autoclear: bigint } {
  return {
    incompatible: view.getBigUint64(INCOMPATIBLE_AT),
    compatible: view.getBigUint64(COMPATIBLE_AT),
    autoclear: view.getBigUint64(AUTOCLEAR_AT),
  };
}

function checkBackingPlace(offset: number, length: number, headerLength: number, available: number): void {
  if (offset === 0) return;
  if (offset < headerLength || offset > available) {
    throw invalidImage(`the backing name lies at ${offset}, allowed are ${headerLength} to ${available}`);
  }
  const room = Math.min(MAX_BACKING_NAME_BYTES, available - offset);
  if (length === 0 || length > room) throw invalidImage(`the backing name is ${length} bytes long, allowed are 1 to ${room}`);
}

function parseBacking(cluster: Uint8Array, offset: number, length: number, extensions: readonly HeaderExtension[]): BackingName {
  const format = extensions.find(({ type }) => type === EXTENSION_BACKING_FORMAT)?.data;
  if (format && format.length > MAX_BACKING_FORMAT_BYTES) throw invalidImage(`the backing format is ${format.length} bytes long`);
  return {
    name: Buffer.from(cluster.subarray(offset, offset + length)).toString('utf8'),
    format: format && Buffer.from(format).toString('utf8'),
  };
}

function findOddities(headerLength: number, extensions: readonly HeaderExtension[]): string[] {
  const oddities: string[] = [];
  if (headerLength % 8 !== 0) oddities.push(`header_length ${headerLength} is not a multiple of 8`);
  if (extensions.some(({ type }) => type === EXTENSION_DATA_FILE)) {
    oddities.push('an external data file is named but not used');
  }
  return oddities;
}

export interface HeaderFields {
  readonly clusterBits: number;
  readonly size: number;
  readonly l1Size: number;
  readonly l1Offset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  readonly refcountOrder: 4;
  readonly compressionType: ClusterCompression;
  readonly backing?: { readonly name: string; readonly format: 'qcow2' | 'raw' };
  readonly extensions?: readonly HeaderExtension[];
}

/**
 * The header area of a version 3 image: header, extensions, end marker, backing name. Shorter than one cluster; the caller pads with zeros.
 * Throws QCOW2_INVALID when it does not fit the first cluster.
 */
export function encodeHeader(fields: HeaderFields): Uint8Array {
  const clusterSize = 2 ** fields.clusterBits;
  const name = Buffer.from(fields.backing?.name ?? '', 'utf8');
  const area = encodeHeaderExtensions(listExtensions(fields, clusterSize));
  const backingOffset = V3_HEADER_LENGTH + area.length;
  const length = backingOffset + name.length;
  if (name.length > MAX_BACKING_NAME_BYTES || length >= clusterSize) {
    throw invalidImage(`a header of ${length} bytes with a backing name of ${name.length} does not fit a cluster of ${clusterSize} bytes`);
  }
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC);
  view.setUint32(VERSION_AT, 3);
  writeU64(view, BACKING_OFFSET_AT, fields.backing ? backingOffset : 0);
  view.setUint32(BACKING_LENGTH_AT, name.length);
  view.setUint32(CLUSTER_BITS_AT, fields.clusterBits);
  writeU64(view, SIZE_AT, fields.size);
  view.setUint32(L1_SIZE_AT, fields.l1Size);
  writeU64(view, L1_OFFSET_AT, fields.l1Offset);
  writeU64(view, REFCOUNT_TABLE_OFFSET_AT, fields.refcountTableOffset);
  view.setUint32(REFCOUNT_TABLE_CLUSTERS_AT, fields.refcountTableClusters);
  view.setUint32(REFCOUNT_ORDER_AT, fields.refcountOrder);
  view.setUint32(HEADER_LENGTH_AT, V3_HEADER_LENGTH);
  if (fields.compressionType !== 'zlib') {
    view.setBigUint64(INCOMPATIBLE_AT, 1n << BigInt(INCOMPATIBLE_COMPRESSION));
    view.setUint8(COMPRESSION_AT, 1);
  }
  bytes.set(area, V3_HEADER_LENGTH);
  bytes.set(name, backingOffset);
  return bytes;
}

function listExtensions(fields: HeaderFields, clusterSize: number): HeaderExtension[] {
  const extensions: HeaderExtension[] = [];
  if (fields.backing) extensions.push({ type: EXTENSION_BACKING_FORMAT, data: new TextEncoder().encode(fields.backing.format) });
  if (fields.extensions) extensions.push(...fields.extensions);
  if (clusterSize >= MIN_CLUSTER_FOR_FEATURE_NAMES) {
    extensions.push({ type: EXTENSION_FEATURE_NAMES, data: encodeFeatureNames(FEATURE_NAMES) });
  }
  return extensions;
}
