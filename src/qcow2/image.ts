// An image opened for reading: one layer of a disk, or with a backing disk the whole of it.
// It never opens a file that the image names: what lies below is given by the caller or not there.

import type { DiskReader } from '../disk/disk-reader.ts';
import type { ByteRange, Extent } from '../disk/extent.ts';
import { overlay } from '../disk/overlay.ts';
import type { ByteSource } from '../plumbing/byte-source.ts';
import { assert } from '../plumbing/errors.ts';
import { AUTOCLEAR_BITMAPS, hasBit } from './feature-bits.ts';
import type { Qcow2Header } from './header.ts';
import { EXTENSION_BITMAPS } from './header-extensions.ts';
import { ImageLayer } from './image-layer.ts';
import { invalidImage, unsupportedImage, withImageName } from './invalid-image.ts';
import { DEFAULT_LIMITS, type Qcow2Limits } from './limits.ts';
import type { Mapping } from './mapping.ts';
import { readHead } from './read-head.ts';
import { createTableCache, type TableCache } from './table-cache.ts';

export interface OpenOptions {
  /** Overrides of the default limits. */
  readonly limits?: Partial<Qcow2Limits>;
  /** The disk below; an image that names a backing file is refused without it, unless `layer` is set. Closed with the image. */
  readonly backing?: DiskReader;
  /** Open the image as one layer: ranges it does not decide stay `absent`, and the caller resolves them. */
  readonly layer?: boolean;
  /** The backing name the image must carry, or null for none; anything else is refused. Not compared where it is not given. */
  readonly expectedBackingName?: string | null;
  /** Refuse breaches of the format that QEMU's reader ignores, such as reserved bits; on by default. */
  readonly strict?: boolean;
  /** Where L2 tables are kept; 16 MiB of its own by default. Hand the same one to all images of a chain. */
  readonly cache?: TableCache;
}

export interface Qcow2Image extends DiskReader {
  readonly header: Qcow2Header;
  /** The file itself. */
  readonly source: ByteSource;
  /** What a user should know: snapshots that are not read, oddities of the header. */
  readonly warnings: readonly string[];
  /** Where the bytes of a range lie in this image, without what lies below it. */
  mapping(range: ByteRange): AsyncIterable<Mapping>;
}

/**
 * Opens an image; closing it closes `source` (and `backing`). When it throws, `source` stays open and is the caller's.
 * Throws QCOW2_INVALID or QCOW2_UNSUPPORTED, and what the source throws.
 */
export async function openQcow2(source: ByteSource, options: OpenOptions = {}): Promise<Qcow2Image> {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  try {
    const { header, bytes } = await readHead(source, limits);
    checkBacking(header, options);
    const cache = options.cache ?? createTableCache();
    const layer = new ImageLayer({ source, header, firstBytes: bytes, strict: options.strict ?? true, cache });
    const warnings = [...header.warnings, ...describeExtras(header)];
    return makeImage(layer, warnings, options.backing);
  } catch (error) {
    throw withImageName(source.name, error);
  }
}

function makeImage(layer: ImageLayer, warnings: readonly string[], backing: DiskReader | undefined): Qcow2Image {
  const disk = backing ? overlay([layer, backing]) : layer;
  return {
    header: layer.header,
    source: layer.source,
    warnings,
    size: layer.size,
    name: layer.name,
    mapping: (range) => layer.mapping(range),
    extents: (range): AsyncIterable<Extent> => {
      checkRange(layer, range);
      return disk.extents(range);
    },
    read: async (buffer, offset) => {
      checkRange(layer, { offset, length: buffer.length });
      await disk.read(buffer, offset);
    },
    close: () => disk.close(),
  };
}

function checkRange(disk: DiskReader, { offset, length }: ByteRange): void {
  const inside = Number.isSafeInteger(offset) && offset >= 0 && length >= 0 && offset + length <= disk.size;
  assert(inside, `a range of ${length} bytes at ${offset} is not inside the disk ${disk.name} of ${disk.size} bytes`);
}

function checkBacking(header: Qcow2Header, options: OpenOptions): void {
  const name = header.backing?.name ?? null;
  const { expectedBackingName } = options;
  if (expectedBackingName !== undefined && name !== expectedBackingName) {
    throw invalidImage(`the image names ${describeName(name)} as its backing file, expected is ${describeName(expectedBackingName)}`);
  }
  if (name === null && options.backing) throw invalidImage('the image has no backing file, but a disk to lie below it was given');
  const resolved = options.backing !== undefined || options.layer === true || expectedBackingName !== undefined;
  if (name !== null && !resolved) {
    throw unsupportedImage(
      `the image needs the backing file ${describeName(name)}, and names found in images are never opened`,
      'say which disk lies below it, or make one image of both with `qemu-img convert`',
    );
  }
}

function describeName(name: string | null): string {
  return name === null ? 'nothing' : JSON.stringify(name);
}

function describeExtras(header: Qcow2Header): string[] {
  const extras: string[] = [];
  if (header.snapshotCount > 0) extras.push(`the image has ${header.snapshotCount} internal snapshots; only its active state is read`);
  if (header.dirty) extras.push('the image was not closed cleanly; its refcounts may be wrong, its data are not affected');
  if (header.corrupt) extras.push('the image is marked as corrupt');
  if (header.extensions.some(({ type }) => type === EXTENSION_BITMAPS)) {
    const state = hasBit(header.autoclear, AUTOCLEAR_BITMAPS) ? '' : ', which are out of date';
    extras.push(`the image has bitmaps${state}; they are not needed to read it`);
  }
  return extras;
}
