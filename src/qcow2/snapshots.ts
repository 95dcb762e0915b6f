// The snapshot table: internal snapshots of an image, which a reader of the active state does not need.
// It must not read what a snapshot holds; it says where that lies.

import { highHalf, lowHalf, readU64 } from '../plumbing/big-endian.ts';
import type { ByteSource } from '../plumbing/byte-source.ts';
import type { Qcow2Header } from './header.ts';
import { invalidImage } from './invalid-image.ts';
import { MAX_L1_BYTES, MAX_SNAPSHOT_EXTRA_BYTES, type Qcow2Limits } from './limits.ts';

/**
 * One entry, big-endian, padded with zeros to a multiple of 8:
 *   0  u64  offset of the L1 table      24  u64  virtual clock, nanoseconds
 *   8  u32  entries of the L1 table     32  u32  size of the VM state, bytes
 *  12  u16  length of the id            36  u32  length of the extra data
 *  14  u16  length of the name          40       extra data, id, name
 *  16  u32  date, seconds               extra data: 0 u64 size of the VM state, 8 u64 size of the disk,
 *  20  u32  date, nanoseconds                       16 u64 instruction count, all ones where there is none
 */
const L1_SIZE_AT = 8;
const ID_LENGTH_AT = 12;
const NAME_LENGTH_AT = 14;
const DATE_SECONDS_AT = 16;
const DATE_NANOSECONDS_AT = 20;
const CLOCK_AT = 24;
const STATE_SIZE_AT = 32;
const EXTRA_LENGTH_AT = 36;
const FIXED_LENGTH = 40;
const EXTRA_DISK_SIZE = 8;
const EXTRA_INSTRUCTIONS = 16;
const V3_EXTRA_LENGTH = 16;
const NO_INSTRUCTIONS = 2n ** 64n - 1n;
const FIRST_READ_BYTES = 65_536;

export interface Snapshot {
  readonly id: string;
  readonly name: string;
  readonly l1Offset: number;
  /** Entries. */
  readonly l1Size: number;
  readonly dateSeconds: number;
  readonly dateNanoseconds: number;
  /** Nanoseconds. */
  readonly clock: bigint;
  /** Bytes. */
  readonly stateSize: number;
  /** Bytes; undefined in old images. */
  readonly diskSize: number | undefined;
  readonly instructions: bigint | undefined;
  /** Bytes of extra data this version does not know. */
  readonly unknownExtra: Uint8Array;
}

/** The snapshots of an image and the bytes their table takes. Throws QCOW2_INVALID for a damaged table, and what the source throws. */
export async function readSnapshots(
  source: ByteSource,
  header: Qcow2Header,
  limits: Qcow2Limits,
): Promise<{ readonly snapshots: readonly Snapshot[]; readonly tableLength: number }> {
  if (header.snapshotCount === 0) return { snapshots: [], tableLength: 0 };
  const most = Math.min(source.size - header.snapshotsOffset, limits.snapshotTableBytes);
  for (let length = Math.min(FIRST_READ_BYTES, most); ; length = Math.min(length * 4, most)) {
    const bytes = new Uint8Array(length);
    await source.read(bytes, header.snapshotsOffset);
    const parsed = parseSnapshotTable(bytes, header, source.size);
    if (parsed) return parsed;
    if (length === most) {
      throw invalidImage(`the snapshot table goes on behind ${most} bytes`, {
        offset: header.snapshotsOffset,
        limit: limits.snapshotTableBytes,
      });
    }
  }
}

/** Undefined where `bytes` end before the table does. */
export function parseSnapshotTable(
  bytes: Uint8Array,
  header: Pick<Qcow2Header, 'snapshotCount' | 'version' | 'clusterSize'>,
  fileSize: number,
): { readonly snapshots: readonly Snapshot[]; readonly tableLength: number } | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const snapshots: Snapshot[] = [];
  let at = 0;
  for (let number = 1; number <= header.snapshotCount; number += 1) {
    if (at + FIXED_LENGTH > bytes.length) return undefined;
    const extraLength = view.getUint32(at + EXTRA_LENGTH_AT);
    if (extraLength > MAX_SNAPSHOT_EXTRA_BYTES) throw invalidImage(`snapshot ${number} has ${extraLength} bytes of extra data`);
    if (header.version === 3 && extraLength < V3_EXTRA_LENGTH) {
      throw invalidImage(`snapshot ${number} has ${extraLength} bytes of extra data, version 3 needs ${V3_EXTRA_LENGTH}`);
    }
    const length = FIXED_LENGTH + extraLength + view.getUint16(at + ID_LENGTH_AT) + view.getUint16(at + NAME_LENGTH_AT);
    if (at + length > bytes.length) return undefined;
    const snapshot = parseSnapshot(bytes.subarray(at, at + length), extraLength);
    checkL1(snapshot, number, header.clusterSize, fileSize);
    snapshots.push(snapshot);
    at += Math.ceil(length / 8) * 8;
  }
  return { snapshots, tableLength: at };
}

function parseSnapshot(bytes: Uint8Array, extraLength: number): Snapshot {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const has = (end: number): boolean => extraLength >= end;
  const instructions = has(EXTRA_INSTRUCTIONS + 8) ? view.getBigUint64(FIXED_LENGTH + EXTRA_INSTRUCTIONS) : NO_INSTRUCTIONS;
  const idAt = FIXED_LENGTH + extraLength;
  const nameAt = idAt + view.getUint16(ID_LENGTH_AT);
  return {
    id: Buffer.from(bytes.subarray(idAt, nameAt)).toString('utf8'),
    name: Buffer.from(bytes.subarray(nameAt)).toString('utf8'),
    l1Offset: readU64(view, 0),
    l1Size: view.getUint32(L1_SIZE_AT),
    dateSeconds: view.getUint32(DATE_SECONDS_AT),
    dateNanoseconds: view.getUint32(DATE_NANOSECONDS_AT),
    clock: view.getBigUint64(CLOCK_AT),
    stateSize: has(8) ? readU64(view, FIXED_LENGTH) : view.getUint32(STATE_SIZE_AT),
    diskSize: has(EXTRA_DISK_SIZE + 8) ? readU64(view, FIXED_LENGTH + EXTRA_DISK_SIZE) : undefined,
    instructions: instructions === NO_INSTRUCTIONS ? undefined : instructions,
    unknownExtra: Uint8Array.from(bytes.subarray(FIXED_LENGTH + Math.min(extraLength, EXTRA_INSTRUCTIONS + 8), idAt)),
  };
}

function checkL1({ l1Offset, l1Size }: Snapshot, number: number, clusterSize: number, fileSize: number): void {
  const length = l1Size * 8;
  if (length > MAX_L1_BYTES) throw invalidImage(`the L1 table of snapshot ${number} has ${length} bytes, the limit is ${MAX_L1_BYTES}`);
  if (l1Size > 0 && (l1Offset === 0 || l1Offset % clusterSize !== 0 || l1Offset + length > fileSize)) {
    throw invalidImage(`the L1 table of snapshot ${number} (${length} bytes at ${l1Offset}) is not at a cluster of the file`);
  }
}

/** The table as version 3 has it, with the instruction count only where one is given. */
export function encodeSnapshotTable(snapshots: readonly Snapshot[]): Uint8Array {
  return Buffer.concat(snapshots.map(encodeSnapshot));
}

function encodeSnapshot(snapshot: Snapshot): Uint8Array {
  const id = Buffer.from(snapshot.id, 'utf8');
  const name = Buffer.from(snapshot.name, 'utf8');
  const known = snapshot.instructions === undefined && snapshot.unknownExtra.length === 0 ? V3_EXTRA_LENGTH : EXTRA_INSTRUCTIONS + 8;
  const extraLength = known + snapshot.unknownExtra.length;
  const bytes = Buffer.alloc(Math.ceil((FIXED_LENGTH + extraLength + id.length + name.length) / 8) * 8);
  const writeSize = (value: number, at: number): void => {
    bytes.writeUInt32BE(highHalf(value), at);
    bytes.writeUInt32BE(lowHalf(value), at + 4);
  };
  writeSize(snapshot.l1Offset, 0);
  bytes.writeUInt32BE(snapshot.l1Size, L1_SIZE_AT);
  bytes.writeUInt16BE(id.length, ID_LENGTH_AT);
  bytes.writeUInt16BE(name.length, NAME_LENGTH_AT);
  bytes.writeUInt32BE(snapshot.dateSeconds, DATE_SECONDS_AT);
  bytes.writeUInt32BE(snapshot.dateNanoseconds, DATE_NANOSECONDS_AT);
  bytes.writeBigUInt64BE(snapshot.clock, CLOCK_AT);
  bytes.writeUInt32BE(extraLength, EXTRA_LENGTH_AT);
  writeSize(snapshot.stateSize, FIXED_LENGTH);
  writeSize(snapshot.diskSize ?? 0, FIXED_LENGTH + EXTRA_DISK_SIZE);
  if (known > V3_EXTRA_LENGTH) bytes.writeBigUInt64BE(snapshot.instructions ?? NO_INSTRUCTIONS, FIXED_LENGTH + EXTRA_INSTRUCTIONS);
  bytes.set(snapshot.unknownExtra, FIXED_LENGTH + known);
  bytes.set(id, FIXED_LENGTH + extraLength);
  bytes.set(name, FIXED_LENGTH + extraLength + id.length);
  return bytes;
}
