// What an image says about itself, as `qemu-img info --output=json` prints it.
// It reads the header and two small tables, and opens nothing the image names.

import { dirname, isAbsolute, join } from 'node:path';
import type { ByteSource } from '../plumbing/byte-source.ts';
import { isChainkeepError } from '../plumbing/errors.ts';
import { statDescriptor } from '../plumbing/file-source.ts';
import { type BitmapDirectory, readBitmaps } from './bitmaps.ts';
import type { Qcow2Header } from './header.ts';
import { withImageName } from './invalid-image.ts';
import { DEFAULT_LIMITS, type Qcow2Limits } from './limits.ts';
import { readHead } from './read-head.ts';
import { readSnapshots, type Snapshot } from './snapshots.ts';

const BLOCK = 512;
const BILLION = 1_000_000_000n;

export interface SnapshotInfo {
  readonly id: string;
  readonly name: string;
  readonly 'vm-state-size': number;
  readonly 'date-sec': number;
  readonly 'date-nsec': number;
  readonly 'vm-clock-sec': number;
  readonly 'vm-clock-nsec': number;
  readonly icount?: number;
}

export interface BitmapInfo {
  readonly name: string;
  readonly granularity: number;
  readonly flags: readonly ('in-use' | 'auto')[];
}

export interface FormatInfo {
  readonly compat: '0.10' | '1.1';
  readonly 'compression-type': 'zlib' | 'zstd';
  readonly 'refcount-bits': number;
  readonly 'lazy-refcounts'?: boolean;
  readonly corrupt?: boolean;
  readonly 'extended-l2'?: boolean;
  readonly bitmaps?: readonly BitmapInfo[];
}

export interface ImageInfo {
  readonly filename: string;
  readonly format: 'qcow2';
  /** Bytes. */
  readonly 'virtual-size': number;
  /** Bytes the file takes on its disk; absent where the source is not a file. */
  readonly 'actual-size'?: number;
  readonly 'cluster-size': number;
  /** As it stands in the image. It was not opened, and need not exist. */
  readonly 'backing-filename'?: string;
  /** The same, seen from where the image lies. */
  readonly 'full-backing-filename'?: string;
  readonly 'backing-filename-format'?: string;
  readonly snapshots?: readonly SnapshotInfo[];
  readonly 'format-specific': { readonly type: 'qcow2'; readonly data: FormatInfo };
  readonly 'dirty-flag': boolean;
  /** Ours: what qemu-img would refuse the image for, or keep to itself. */
  readonly warnings: readonly string[];
}

/** Throws QCOW2_INVALID or QCOW2_UNSUPPORTED for an image that cannot be opened, and what the source throws. */
export async function readImageInfo(source: ByteSource, limits: Partial<Qcow2Limits> = {}): Promise<ImageInfo> {
  const all = { ...DEFAULT_LIMITS, ...limits };
  try {
    const { header } = await readHead(source, all);
    const warnings = [...header.warnings];
    const snapshots = await snapshotsOrWarning(source, header, all, warnings);
    const bitmaps = await readBitmaps(source, header, all);
    if (bitmaps) warnings.push(...describeBitmaps(bitmaps));
    return {
      filename: source.name,
      format: 'qcow2',
      'virtual-size': header.size,
      ...(source.fd === undefined ? {} : { 'actual-size': statDescriptor(source.name, source.fd).blocks * BLOCK }),
      'cluster-size': header.clusterSize,
      ...describeBacking(header, source.name),
      ...(snapshots.length > 0 && { snapshots: snapshots.map(describeSnapshot) }),
      'format-specific': { type: 'qcow2', data: describeFormat(header, bitmaps) },
      'dirty-flag': header.dirty,
      warnings,
    };
  } catch (error) {
    throw withImageName(source.name, error);
  }
}

async function snapshotsOrWarning(
  source: ByteSource,
  header: Qcow2Header,
  limits: Qcow2Limits,
  warnings: string[],
): Promise<readonly Snapshot[]> {
  try {
    return (await readSnapshots(source, header, limits)).snapshots;
  } catch (error) {
    // Snapshots are not needed to read the disk: the damage is said, and the rest is told.
    if (!isChainkeepError(error, 'QCOW2_INVALID')) throw error;
    warnings.push(error.message);
    return [];
  }
}

function describeBitmaps({ bitmaps, problem }: BitmapDirectory): string[] {
  const unusable = bitmaps.filter((bitmap) => bitmap.unusable !== undefined);
  const lines = unusable.map((bitmap) => `the bitmap ${JSON.stringify(bitmap.name)} cannot be used: ${bitmap.unusable}`);
  return problem === undefined ? lines : [...lines, problem];
}

type BackingInfo = Pick<ImageInfo, 'backing-filename' | 'full-backing-filename' | 'backing-filename-format'>;

function describeBacking({ backing }: Qcow2Header, imageName: string): BackingInfo {
  if (!backing) return {};
  const relative = !isAbsolute(backing.name) && !/^[a-z0-9+.-]+:/i.test(backing.name);
  return {
    'backing-filename': backing.name,
    'full-backing-filename': relative ? join(dirname(imageName), backing.name) : backing.name,
    ...(backing.format !== undefined && { 'backing-filename-format': backing.format }),
  };
}

function describeSnapshot(snapshot: Snapshot): SnapshotInfo {
  return {
    id: snapshot.id,
    name: snapshot.name,
    'vm-state-size': snapshot.stateSize,
    'date-sec': snapshot.dateSeconds,
    'date-nsec': snapshot.dateNanoseconds,
    'vm-clock-sec': Number(snapshot.clock / BILLION),
    'vm-clock-nsec': Number(snapshot.clock % BILLION),
    ...(snapshot.instructions !== undefined && { icount: Number(snapshot.instructions) }),
  };
}

function describeFormat(header: Qcow2Header, bitmaps: BitmapDirectory | undefined): FormatInfo {
  const common = { 'compression-type': header.compressionType, 'refcount-bits': 2 ** header.refcountOrder };
  if (header.version === 2) return { compat: '0.10', ...common };
  return {
    compat: '1.1',
    ...common,
    'lazy-refcounts': header.lazyRefcounts,
    corrupt: header.corrupt,
    'extended-l2': header.extendedL2,
    ...(bitmaps && bitmaps.bitmaps.length > 0 && { bitmaps: bitmaps.bitmaps.map(describeBitmap) }),
  };
}

function describeBitmap({ name, granularityBits, inUse, auto }: BitmapDirectory['bitmaps'][number]): BitmapInfo {
  return {
    name,
    granularity: 2 ** granularityBits,
    flags: [...(inUse ? (['in-use'] as const) : []), ...(auto ? (['auto'] as const) : [])],
  };
}
