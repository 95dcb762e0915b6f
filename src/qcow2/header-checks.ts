// Why a header is refused: features this reader must not or cannot serve, sizes over a limit, tables that do not lie in the file.
// Nothing here reads the image; it judges numbers that were read.

import {
  AUTOCLEAR_RAW_DATA_FILE,
  hasBit,
  INCOMPATIBLE_COMPRESSION,
  INCOMPATIBLE_DATA_FILE,
  INCOMPATIBLE_EXTENDED_L2,
  parseFeatureNames,
  unknownIncompatibleBits,
} from './feature-bits.ts';
import type { Qcow2Header } from './header.ts';
import { EXTENSION_ENCRYPTION, EXTENSION_FEATURE_NAMES, type HeaderExtension } from './header-extensions.ts';
import { invalidImage, unsupportedImage } from './invalid-image.ts';
import { MAX_REFCOUNT_ORDER, MIN_CLUSTER_BITS_EXTENDED, type Qcow2Limits } from './limits.ts';

const ENCRYPTION_NONE = 0;
const ENCRYPTION_AES = 1;
const ENCRYPTION_LUKS = 2;
const COMPRESSION_ZSTD = 1;
/** Bytes of an L1 entry and of a refcount table entry. */
const ENTRY_LENGTH = 8;
const L2_ENTRY_LENGTH = 8;
const EXTENDED_L2_ENTRY_LENGTH = 16;

interface DeclaredFeatures {
  readonly incompatible: bigint;
  readonly autoclear: bigint;
  readonly extensions: readonly HeaderExtension[];
  readonly compressionByte: number;
  readonly encryption: number;
  readonly clusterBits: number;
}

export function checkFeatures(declared: DeclaredFeatures): void {
  checkEncryption(declared);
  const { incompatible, extensions, compressionByte } = declared;
  if (hasBit(incompatible, INCOMPATIBLE_DATA_FILE)) {
    throw unsupportedImage(
      'the image keeps its data in an external data file, which is never opened',
      'make an ordinary image of it with `qemu-img convert`, if you trust where it comes from',
    );
  }
  const unknown = unknownIncompatibleBits(incompatible);
  if (unknown.length > 0) {
    throw unsupportedImage(
      `the image needs features this version does not know: ${unknown.map((bit) => nameFeature(bit, extensions)).join(', ')}`,
      'convert the image with the tool that wrote it',
      { incompatible: `0x${incompatible.toString(16)}` },
    );
  }
  if (hasBit(declared.autoclear, AUTOCLEAR_RAW_DATA_FILE)) {
    throw invalidImage('the header says that external data is raw, but there is no external data file');
  }
  if (hasBit(incompatible, INCOMPATIBLE_COMPRESSION) !== (compressionByte !== 0)) {
    throw invalidImage(`compression type ${compressionByte} and the feature bit for it contradict each other`);
  }
  if (compressionByte > COMPRESSION_ZSTD) {
    throw unsupportedImage(`compression type ${compressionByte} is not known`, 'convert the image to zlib, zstd or no compression');
  }
  if (hasBit(incompatible, INCOMPATIBLE_EXTENDED_L2) && declared.clusterBits < MIN_CLUSTER_BITS_EXTENDED) {
    throw invalidImage(`extended L2 entries need clusters of at least 16 KiB, cluster_bits is ${declared.clusterBits}`);
  }
}

function checkEncryption({ encryption, extensions }: DeclaredFeatures): void {
  if (encryption === ENCRYPTION_AES || encryption === ENCRYPTION_LUKS) {
    throw unsupportedImage('the image is encrypted, which is not supported', 'decrypt it with `qemu-img convert` first', { encryption });
  }
  if (encryption !== ENCRYPTION_NONE) throw invalidImage(`encryption method ${encryption} is not known`);
  if (extensions.some(({ type }) => type === EXTENSION_ENCRYPTION)) {
    throw invalidImage('the header has an encryption extension, but the image is not encrypted');
  }
}

function nameFeature(bit: number, extensions: readonly HeaderExtension[]): string {
  const table = extensions.find(({ type }) => type === EXTENSION_FEATURE_NAMES);
  const named = table && parseFeatureNames(table.data).find((feature) => feature.kind === 'incompatible' && feature.bit === bit);
  return named?.name ? `${JSON.stringify(named.name)} (bit ${bit})` : `incompatible bit ${bit}`;
}

/** The size of the disk as a safe integer; any size is fine, also one that is no multiple of 512. */
export function checkGeometry(size: bigint, limits: Qcow2Limits): number {
  if (size >= 1n << 63n) throw invalidImage(`the virtual size is ${size} bytes, more than 2^63 - 1`);
  if (size > BigInt(limits.virtualSize)) {
    throw unsupportedImage(
      `the virtual size is ${size} bytes, the limit is ${limits.virtualSize}`,
      'raise the limit if the image is meant to be that large',
      { size: String(size), limit: limits.virtualSize },
    );
  }
  return Number(size);
}

/** Entries of one L2 table. */
export function l2EntryCount(clusterSize: number, extended: boolean): number {
  return clusterSize / (extended ? EXTENDED_L2_ENTRY_LENGTH : L2_ENTRY_LENGTH);
}

export function checkTables(header: Qcow2Header, fileSize: number, limits: Qcow2Limits): void {
  checkL1(header, fileSize, limits);
  const { clusterSize, refcountTableOffset, refcountTableClusters, refcountOrder } = header;
  if (refcountOrder > MAX_REFCOUNT_ORDER) throw invalidImage(`refcount_order is ${refcountOrder}, allowed are 0 to ${MAX_REFCOUNT_ORDER}`);
  const refcountTableBytes = refcountTableClusters * clusterSize;
  if (refcountTableClusters === 0) throw invalidImage('the refcount table has no clusters');
  if (refcountTableBytes > limits.refcountTableBytes) {
    throw invalidImage(`the refcount table has ${refcountTableBytes} bytes, the limit is ${limits.refcountTableBytes}`);
  }
  checkPlace('the refcount table', refcountTableOffset, refcountTableBytes, clusterSize, fileSize);
  if (header.snapshotCount > limits.snapshots) {
    throw invalidImage(`the image has ${header.snapshotCount} snapshots, the limit is ${limits.snapshots}`);
  }
  if (header.snapshotCount > 0) checkPlace('the snapshot table', header.snapshotsOffset, 0, clusterSize, fileSize);
}

function checkL1(header: Qcow2Header, fileSize: number, limits: Qcow2Limits): void {
  const { clusterSize, l1Size, l1Offset, size } = header;
  const l1Bytes = l1Size * ENTRY_LENGTH;
  if (l1Bytes > limits.l1Bytes) throw invalidImage(`the L1 table has ${l1Bytes} bytes, the limit is ${limits.l1Bytes}`);
  const needed = Math.ceil(size / (clusterSize * l2EntryCount(clusterSize, header.extendedL2)));
  if (l1Size < needed) throw invalidImage(`the L1 table has ${l1Size} entries, a disk of ${size} bytes needs ${needed}`);
  if (l1Size > 0) checkPlace('the L1 table', l1Offset, l1Bytes, clusterSize, fileSize);
  else if (l1Offset % clusterSize !== 0) throw invalidImage(`the L1 table lies at ${l1Offset}, not at a multiple of ${clusterSize}`);
}

/** `offset` may be Infinity, which stands for more than 2^53. */
function checkPlace(what: string, offset: number, length: number, clusterSize: number, fileSize: number): void {
  if (offset === 0) throw invalidImage(`${what} has no place: its offset is 0`);
  if (offset + length > fileSize) {
    throw invalidImage(`${what} (${length} bytes at ${offset}) lies past the end of the file at ${fileSize}`, { offset, length, fileSize });
  }
  if (offset % clusterSize !== 0) throw invalidImage(`${what} lies at ${offset}, not at a multiple of ${clusterSize}`, { offset });
}
